// SPDX-License-Identifier: Apache-2.0
// Lists of names by which users choose network interfaces, RDMA devices and NICs: one language for TUTTI_SOCKET_IFNAME,
// TUTTI_RDMA_HCA and TUTTI_NICS.
//
// A comma list; a mark before a name holds for the names after it, until the next mark:
//   eth,ib          names that start with eth, then names that start with ib
//   =eth0,eth1      exactly these
//   ^docker,virbr   all but names that start so;  ^=eth0: all but exactly this
//   mlx5_0:2        (where devices have ports) one port only
// Empty: all. What is excluded is never chosen, whatever else the list says.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tutti {

class NameList {
 public:
  enum class Ports : bool { No, Yes };  // without ports a colon is part of the name, as in eth0:1

  // `variable` is what an error names as the source.
  static Result<NameList> parse(std::string_view variable, std::string_view text, Ports ports = Ports::No);

  // Place of the first item that chooses the name (0 if the list only excludes), or -1: not to be used.
  int place_of(std::string_view name, int port = 0) const;
  bool admits(std::string_view name, int port = 0) const { return place_of(name, port) >= 0; }

 private:
  struct Item {
    std::string name;
    bool exact = false;
    int port = 0;  // 0: all
    bool matches(std::string_view candidate, int candidate_port) const {
      return (exact ? candidate == name : candidate.starts_with(name)) && (port == 0 || port == candidate_port);
    }
  };
  std::vector<Item> chosen_, excluded_;
};

// NICs that may carry data between hosts: what users know the list by, and its language.
inline constexpr std::string_view kNicList = "TUTTI_NICS, --nics or nics of the configuration";
inline Result<NameList> parse_nic_list(std::string_view text) { return NameList::parse(kNicList, text); }

}  // namespace tutti
