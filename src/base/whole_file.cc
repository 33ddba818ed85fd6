// SPDX-License-Identifier: Apache-2.0
#include "base/whole_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/handle.h"

namespace tutti {

Status write_whole_file(const std::string& path, std::string_view text, std::string_view what) {
  const std::string draft = fmt::format("{}.{}.{}.part", path, ::getpid(), ::gettid());
  UniqueFd file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return errno_status("open", fmt::format("{} {}", what, draft));
  Status status;
  while (!text.empty() && status.ok()) {
    const ssize_t put = ::write(file.get(), text.data(), text.size());
    if (put > 0) {
      text.remove_prefix(static_cast<size_t>(put));
    } else if (put == 0 || errno != EINTR) {
      status = errno_status("write", fmt::format("{} {}", what, path));
    }
  }
  file.reset();
  if (status.ok() && ::rename(draft.c_str(), path.c_str()) != 0)
    status = errno_status("rename", fmt::format("{} {}", what, path));
  if (!status.ok()) (void)::unlink(draft.c_str());
  return status;
}

}  // namespace tutti
