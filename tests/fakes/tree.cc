// SPDX-License-Identifier: Apache-2.0
// See tree.h.
#include "tests/fakes/tree.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace tutti::fakes {
namespace fs = std::filesystem;

Tree::Tree() {
  std::string pattern = (fs::temp_directory_path() / "tutti-tree-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  root_ = pattern;
}

Tree::~Tree() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

Tree& Tree::file(std::string_view path, std::string_view text) {
  const fs::path where = root_ + std::string(path);
  fs::create_directories(where.parent_path());
  std::ofstream(where, std::ios::binary | std::ios::trunc) << text;
  return *this;
}

Tree& Tree::directory(std::string_view path) {
  fs::create_directories(root_ + std::string(path));
  return *this;
}

Tree& Tree::link(std::string_view path, std::string_view target) {
  const fs::path where = root_ + std::string(path);
  fs::create_directories(where.parent_path());
  const fs::path aim = fs::path(root_ + std::string(target)).lexically_relative(where.parent_path());
  fs::remove(where);
  fs::create_symlink(aim, where);
  return *this;
}

Tree& Tree::remove(std::string_view path) {
  fs::remove_all(root_ + std::string(path));
  return *this;
}

bool Tree::unpack(const std::string& recording) {
  std::ifstream in(recording);
  if (!in) return false;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    if (const size_t arrow = line.find(" -> "); arrow != std::string::npos) {
      link(line.substr(0, arrow), line.substr(arrow + 4));
    } else if (const size_t equals = line.find(" = "); equals != std::string::npos) {
      std::string text;
      for (size_t i = equals + 3; i < line.size(); ++i) {
        const bool escaped = line[i] == '\\' && i + 1 < line.size();
        text += !escaped ? line[i] : line[++i] == 'n' ? '\n' : line[i];
      }
      file(line.substr(0, equals), text);
    } else {
      directory(line);
    }
  }
  return true;
}

std::string Tree::pci(std::string_view chain, std::string_view device_class, std::string_view vendor,
                      std::string_view device, int numa_node, std::string_view speed, std::string_view width) {
  const std::string directory = "/sys/devices/" + std::string(chain);
  file(directory + "/class", std::string(device_class) + "\n");
  file(directory + "/vendor", std::string(vendor) + "\n");
  file(directory + "/device", std::string(device) + "\n");
  file(directory + "/numa_node", std::to_string(numa_node) + "\n");
  if (!speed.empty())
    file(directory + "/current_link_speed", std::string(speed) + "\n")
        .file(directory + "/max_link_speed", std::string(speed) + "\n");
  if (!width.empty())
    file(directory + "/current_link_width", std::string(width) + "\n")
        .file(directory + "/max_link_width", std::string(width) + "\n");
  link("/sys/bus/pci/devices/" + std::string(chain.substr(chain.rfind('/') + 1)), directory);
  return directory;
}

}  // namespace tutti::fakes
