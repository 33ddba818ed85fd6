// SPDX-License-Identifier: Apache-2.0
//
// What a cell of the comparison computes: collective, sizes, input values, exact expected output.
//
// Every driver uses these rules, so every peer works on the same bytes. The figures' sizes follow the usual convention
// of collective benchmarks: `bytes` is the larger side of the collective (all-gather: the gathered output;
// reduce-scatter: the whole input). Not here: timing (harness.h), how a library is called (driver_*.cc).
#ifndef TUTTI_PERF_COMPARE_PROBLEM_H_
#define TUTTI_PERF_COMPARE_PROBLEM_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <vector>

namespace tutti::compare {

enum class Collective { AllReduce, AllGather, ReduceScatter, Broadcast, AllToAll, Reduce, Gather, Scatter, SendRecv };

struct CollectiveName {
  Collective collective;
  std::string_view name;
};
inline constexpr CollectiveName kCollectives[] = {
    {Collective::AllReduce, "all_reduce"},
    {Collective::AllGather, "all_gather"},
    {Collective::ReduceScatter, "reduce_scatter"},
    {Collective::Broadcast, "broadcast"},
    {Collective::AllToAll, "alltoall"},
    {Collective::Reduce, "reduce"},
    {Collective::Gather, "gather"},
    {Collective::Scatter, "scatter"},
    {Collective::SendRecv, "sendrecv"},
};

inline std::string_view name_of(Collective collective) {
  for (const CollectiveName& row : kCollectives)
    if (row.collective == collective) return row.name;
  return "?";
}

// One cell as one rank sees it. Counts are float32 elements. The root of rooted collectives is rank 0.
struct Problem {
  Collective collective;
  int ranks;
  int rank;
  size_t chunk;        // elements of one rank's share where the collective has shares
  size_t send_count;   // elements of this rank's input, in the send buffer unless `input_in_recv`
  size_t recv_count;   // elements of this rank's output buffer
  size_t bytes;        // the size the figure stands for; >= the size asked for when that cannot be shared evenly
  bool input_in_recv;  // in place: this rank's input is written to the receive buffer

  bool is_root() const { return rank == 0; }
  int next() const { return (rank + 1) % ranks; }
  int previous() const { return (rank + ranks - 1) % ranks; }
};

inline Problem make_problem(Collective collective, int ranks, int rank, size_t bytes) {
  const size_t whole = std::max<size_t>(1, bytes / sizeof(float));
  const size_t chunk = std::max<size_t>(1, whole / ranks);
  const size_t shared = chunk * ranks;
  const bool root = rank == 0;
  Problem p{collective, ranks, rank, chunk, whole, whole, whole * sizeof(float), false};
  switch (collective) {
    case Collective::AllReduce:
    case Collective::Reduce:
    case Collective::SendRecv:
      return p;
    case Collective::Broadcast:  // in place, because MPI and UCC offer nothing else
      p.send_count = root ? whole : 0;
      p.input_in_recv = true;
      return p;
    case Collective::AllGather:
      p.send_count = chunk, p.recv_count = shared;
      break;
    case Collective::ReduceScatter:
      p.send_count = shared, p.recv_count = chunk;
      break;
    case Collective::AllToAll:
      p.send_count = p.recv_count = shared;
      break;
    case Collective::Gather:
      p.send_count = chunk, p.recv_count = root ? shared : 0;
      break;
    case Collective::Scatter:
      p.send_count = root ? shared : 0, p.recv_count = chunk;
      break;
  }
  p.bytes = shared * sizeof(float);
  return p;
}

// Inputs are periodic, so that 256 MiB are written and compared at memory speed:
//
//   input(rank, version)[i] = kPattern[(i + phase(rank, version)) mod 1009],   kPattern = a permutation of 1 .. 1009
//
// 1009 is prime: shares of a power of two start at different places of the pattern, so a swapped share is seen. Sums of
// up to 16,000 ranks stay below 2^24 and are exact in float32. The version tells one call's data from the previous
// call's.
inline constexpr size_t kPeriod = 1009;
using Pattern = std::array<float, kPeriod>;

inline float pattern_value(size_t i) { return static_cast<float>((i % kPeriod) * 7 % kPeriod + 1); }

inline size_t phase(int rank, int version) {
  return (static_cast<size_t>(rank) * 131 + static_cast<size_t>(version) * 499) % kPeriod;
}

// destination[0 .. count) = pattern repeated.
inline void repeat(const Pattern& pattern, float* destination, size_t count) {
  for (size_t at = 0; at < count; at += kPeriod)
    std::memcpy(destination + at, pattern.data(), std::min(kPeriod, count - at) * sizeof(float));
}

inline Pattern input_pattern(int rank, int version) {
  Pattern pattern;
  for (size_t i = 0; i < kPeriod; ++i) pattern[i] = pattern_value(i + phase(rank, version));
  return pattern;
}

// recv[at .. at + count) is the sum over `from` of input(rank)[first ...].
struct Expected {
  struct Source {
    int rank;
    size_t first;
  };
  size_t at;
  size_t count;
  std::vector<Source> from;
};

inline std::vector<Expected> expected_output(const Problem& p) {
  std::vector<Expected> out;
  const auto sum_of_all = [&](size_t first) {
    std::vector<Expected::Source> from;
    for (int r = 0; r < p.ranks; ++r) from.push_back({r, first});
    return from;
  };
  const size_t my_share = static_cast<size_t>(p.rank) * p.chunk;
  switch (p.collective) {
    case Collective::AllReduce:
      out.push_back({0, p.recv_count, sum_of_all(0)});
      break;
    case Collective::Reduce:
      if (p.is_root()) out.push_back({0, p.recv_count, sum_of_all(0)});
      break;
    case Collective::Broadcast:
      out.push_back({0, p.recv_count, {{0, 0}}});
      break;
    case Collective::ReduceScatter:
      out.push_back({0, p.recv_count, sum_of_all(my_share)});
      break;
    case Collective::Scatter:
      out.push_back({0, p.recv_count, {{0, my_share}}});
      break;
    case Collective::SendRecv:
      out.push_back({0, p.recv_count, {{p.previous(), 0}}});
      break;
    case Collective::AllGather:
      for (int r = 0; r < p.ranks; ++r) out.push_back({r * p.chunk, p.chunk, {{r, 0}}});
      break;
    case Collective::Gather:
      for (int r = 0; p.is_root() && r < p.ranks; ++r) out.push_back({r * p.chunk, p.chunk, {{r, 0}}});
      break;
    case Collective::AllToAll:
      for (int r = 0; r < p.ranks; ++r) out.push_back({r * p.chunk, p.chunk, {{r, my_share}}});
      break;
  }
  return out;
}

// The expected output of one cell and version, ready to be compared many times.
class Answer {
 public:
  Answer(const Problem& problem, int version) : spans_(expected_output(problem)) {
    for (const Expected& span : spans_) {
      Pattern& sum = patterns_.emplace_back();
      for (size_t i = 0; i < kPeriod; ++i) {
        float value = 0;
        for (const Expected::Source& s : span.from) value += pattern_value(i + s.first + phase(s.rank, version));
        sum[i] = value;
      }
    }
  }

  // Reads the whole output. Returns the number of wrong elements.
  long count_wrong(const float* recv) const {
    long wrong = 0;
    for (size_t s = 0; s < spans_.size(); ++s)
      for (size_t at = 0; at < spans_[s].count; at += kPeriod) {
        const size_t length = std::min(kPeriod, spans_[s].count - at);
        const float* got = recv + spans_[s].at + at;
        if (std::memcmp(got, patterns_[s].data(), length * sizeof(float)) == 0) continue;
        for (size_t i = 0; i < length; ++i) wrong += got[i] != patterns_[s][i];
      }
    return wrong;
  }

 private:
  std::vector<Expected> spans_;
  std::vector<Pattern> patterns_;
};

}  // namespace tutti::compare
#endif  // TUTTI_PERF_COMPARE_PROBLEM_H_
