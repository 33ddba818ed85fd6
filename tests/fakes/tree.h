// SPDX-License-Identifier: Apache-2.0
// A file tree that stands for a machine's /sys, /proc, /dev: written by a test, or unpacked from a recording
// (tools/record-machine). Lives in a directory of its own that is removed with it.
#pragma once

#include <string>
#include <string_view>

namespace tutti::fakes {

class Tree {
 public:
  Tree();
  ~Tree();
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  const std::string& root() const { return root_; }
  // Paths begin with '/'. Directories are made as needed; an existing file is replaced.
  Tree& file(std::string_view path, std::string_view text);
  Tree& directory(std::string_view path);
  Tree& link(std::string_view path, std::string_view target);  // `target` begins with '/': relative to the root
  Tree& remove(std::string_view path);
  // Adds what a recording holds; false if it cannot be read.
  bool unpack(const std::string& recording);

  // A PCI device at /sys/devices/<chain>/..., where `chain` is "pci0000:20/0000:20:00.0/0000:23:00.0", with its link in
  // /sys/bus/pci/devices. Returns its directory.
  std::string pci(std::string_view chain, std::string_view device_class, std::string_view vendor,
                  std::string_view device, int numa_node, std::string_view speed = "", std::string_view width = "");

 private:
  std::string root_;
};

}  // namespace tutti::fakes
