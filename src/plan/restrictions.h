// SPDX-License-Identifier: Apache-2.0
// Restrictions on the planner, as users write them.
//
//   TUTTI_ALGO   auto | LIST | COLL:LIST[;COLL:LIST...]   LIST = name,name,... or ^name,name,... (all but these)
//   TUTTI_PROTO  auto | LIST
//
// A list without a collective restricts only collectives that have one of the named algorithms: `ring` leaves AllToAll
// alone. A list for a collective restricts it in any case.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "algo/collective.h"
#include "base/status.h"

namespace tutti {

class Restrictions {
 public:
  // Why this choice is excluded; empty if it is allowed.
  std::string excludes(Coll coll, Algo algo, Proto proto, bool mapped) const;
  // The list of protocols names this one alone.
  bool only(Proto proto) const { return protocols_ == 1u << static_cast<int>(proto); }
  // It names nothing but what depends on more than the user knows: buffers, and where GPUs are.
  bool only_what_may_be_lacking() const {
    constexpr unsigned kMayBe = 1u << static_cast<int>(Proto::Rma) | 1u << static_cast<int>(Proto::LL128);
    return protocols_.has_value() && *protocols_ != 0 && (*protocols_ & ~kMayBe) == 0;
  }

 private:
  friend Result<Restrictions> parse_restrictions(std::string_view algorithms, std::string_view protocols);

  std::array<std::optional<unsigned>, kCollCount> algorithms_;  // allowed, by collective; mask of 1 << Algo
  std::optional<unsigned> everywhere_;                          // the list without a collective
  std::optional<unsigned> protocols_;
};

Result<Restrictions> parse_restrictions(std::string_view algorithms, std::string_view protocols);

}  // namespace tutti
