// SPDX-License-Identifier: Apache-2.0
#include "base/whole_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/handle.h"

namespace tutti {

namespace {

Status write_all(int fd, std::string_view text, const std::string& name) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put > 0) {
      text.remove_prefix(static_cast<size_t>(put));
    } else if (put == 0 || errno != EINTR) {
      return errno_status("write", name);
    }
  }
  return {};
}

// There, and not a file of its own.
bool is_special(const std::string& path) {
  struct stat found{};
  return ::lstat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode);
}

}  // namespace

Status write_whole_file(const std::string& path, std::string_view text, std::string_view what) {
  const std::string name = fmt::format("{} {}", what, path);
  if (is_special(path)) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    return file ? write_all(file.get(), text, name) : errno_status("open", name);
  }
  const std::string draft = fmt::format("{}.{}.{}.part", path, ::getpid(), ::gettid());
  UniqueFd file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return errno_status("open", fmt::format("{} {}", what, draft));
  Status status = write_all(file.get(), text, name);
  file.reset();
  if (status.ok() && ::rename(draft.c_str(), path.c_str()) != 0) status = errno_status("rename", name);
  if (!status.ok()) (void)::unlink(draft.c_str());
  return status;
}

}  // namespace tutti
