// SPDX-License-Identifier: Apache-2.0
// The words for what is asked (collective), how it is done (algorithm) and how a slot is handed over (protocol). Used
// by the catalog, the planner, the tools and the tests; everything else about a collective stands in the catalog's
// rows.
#pragma once

#include <cstdint>
#include <string_view>

namespace tutti {

// The V variants use the same schedules with Table layouts; Barrier is a zero-sized idea carried by a tiny AllReduce.
enum class Coll : uint8_t {
  AllReduce,
  Reduce,
  Broadcast,
  AllGather,
  ReduceScatter,
  AllToAll,
  Gather,
  Scatter,
  SendRecv
};
enum class Algo : uint8_t {
  Ring,
  Tree,
  OneShot,
  TwoShot,
  Doubling,
  HalvingDoubling,
  Direct,
  Pairwise,
  Pull,
  Push,
  PullAll,
  Hierarchical,
  Bruck,
  Pat,
  Torus,
  Forest,
  User
};
// Simple and LL carry data through slots; Rma (remote memory access) does without: peers use the buffers where they
// are. LL128 is LL in lines of 128 bytes, between GPUs that see such a line whole (proto/lines.h).
enum class Proto : uint8_t { Simple, LL, Rma, LL128 };

inline constexpr int kCollCount = 9, kAlgoCount = 17, kProtoCount = 4;

// The spelling of environment variables, tools and documents.
inline constexpr std::string_view kCollNames[kCollCount] = {"all_reduce", "reduce",         "broadcast",
                                                            "all_gather", "reduce_scatter", "all_to_all",
                                                            "gather",     "scatter",        "send_recv"};
inline constexpr std::string_view kAlgoNames[kAlgoCount] = {
    "ring",   "tree",     "one_shot", "two_shot", "doubling", "halving_doubling",
    "direct", "pairwise", "pull",     "push",     "pull_all", "hierarchical",
    "bruck",  "pat",      "torus",    "forest",   "user"};
inline constexpr std::string_view kProtoNames[kProtoCount] = {"simple", "ll", "rma", "ll128"};

constexpr std::string_view name(Coll coll) { return kCollNames[static_cast<int>(coll)]; }
constexpr std::string_view name(Algo algo) { return kAlgoNames[static_cast<int>(algo)]; }
constexpr std::string_view name(Proto proto) { return kProtoNames[static_cast<int>(proto)]; }

// Users write all_reduce or allreduce, HalvingDoubling or halving_doubling: names are equal when their letters are.
constexpr bool same_name(std::string_view a, std::string_view b) {
  const auto skip = [](std::string_view& text) {
    while (!text.empty() && (text[0] == '_' || text[0] == '-' || text[0] == ' ')) text.remove_prefix(1);
  };
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  for (;; a.remove_prefix(1), b.remove_prefix(1)) {
    skip(a);
    skip(b);
    if (a.empty() || b.empty()) return a.empty() && b.empty();
    if (lower(a[0]) != lower(b[0])) return false;
  }
}
static_assert(same_name("AllReduce", "all_reduce") && !same_name("all_reduce", "all_reduce_v"));

// Operands are combined on the way (and so pre-scaling and averaging apply).
constexpr bool reduces(Coll coll) {
  return coll == Coll::AllReduce || coll == Coll::Reduce || coll == Coll::ReduceScatter;
}
constexpr bool rooted(Coll coll) {
  return coll == Coll::Reduce || coll == Coll::Broadcast || coll == Coll::Gather || coll == Coll::Scatter;
}

}  // namespace tutti
