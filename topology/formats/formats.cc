// SPDX-License-Identifier: Apache-2.0
#include "topology/formats/formats.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/handle.h"

namespace tutti::topology {
namespace {

// The name of the first element; "" when the text is no XML.
std::string_view first_element(std::string_view text) {
  while (!text.empty()) {
    const size_t at = text.find_first_not_of(" \t\r\n");
    if (at == std::string_view::npos || text[at] != '<') return {};
    text.remove_prefix(at);
    if (text.starts_with("<!--")) {
      const size_t end = text.find("-->");
      if (end == std::string_view::npos) return {};
      text.remove_prefix(end + 3);
    } else if (text.starts_with("<?") || text.starts_with("<!")) {
      const size_t end = text.find('>');
      if (end == std::string_view::npos) return {};
      text.remove_prefix(end + 1);
    } else {
      return text.substr(1, text.find_first_of(" \t\r\n/>", 1) - 1);
    }
  }
  return {};
}

std::string beginning(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, 40)) shown += c >= ' ' && c <= '~' ? c : ' ';
  return shown;
}

}  // namespace

Result<Format> recognise(std::string_view text, std::string_view name) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const size_t at = text.find_first_not_of(" \t\r\n");
  if (at == std::string_view::npos) return invalid_argument("{}: the file is empty", name);
  if (text[at] == '{') return Format::Json;
  const std::string_view element = first_element(text);
  if (element == "system" || element == "graphs") return Format::NcclXml;
  if (element == "topology") return Format::HwlocXml;
  if (!element.empty())
    return invalid_argument("{}:1: <{}> is the root neither of a NCCL topology (<system>) nor of hwloc's (<topology>)",
                            name, element.substr(0, 40));
  if (text[at] != '<' && text.find("GPU0") != std::string_view::npos) return Format::NvidiaSmi;
  return invalid_argument(
      "{}:1: no topology that is known (NCCL XML, hwloc XML, `nvidia-smi topo -m`, this library's JSON); it begins "
      "with "
      "\"{}\"",
      name, beginning(text.substr(at)));
}

Result<Graph> read_topology(std::string_view text, std::string_view name) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  TUTTI_ASSIGN_OR_RETURN(const Format format, recognise(text, name));
  switch (format) {
    case Format::NcclXml:
      return read_nccl_xml(text, name);
    case Format::HwlocXml:
      return read_hwloc_xml(text, name);
    case Format::NvidiaSmi:
      return read_nvidia_smi(text, name);
    case Format::Json:
      return read_json(text, name);
  }
  return invalid_argument("{}: unknown format", name);
}

Result<Graph> read_topology_file(const std::string& path) {
  UniqueFd owned;
  int fd = STDIN_FILENO;
  if (path != "-") {
    owned.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!owned) return errno_status("open", path);
    fd = owned.get();
  }
  std::string text;
  for (;;) {
    char block[65536];
    const ssize_t got = ::read(fd, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status("read", path);
    if (got == 0) break;
    text.append(block, static_cast<size_t>(got));
    if (text.size() > kMostBytes) return invalid_argument("{}: larger than {} MiB", path, kMostBytes >> 20);
  }
  return read_topology(text, path == "-" ? "standard input" : path);
}

}  // namespace tutti::topology
