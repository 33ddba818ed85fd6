// SPDX-License-Identifier: Apache-2.0
// The table of collectives. Formulas and rounding follow nccl-tests, so that figures can be laid side by side.
#include "perf/collectives.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

namespace tutti::perf {
namespace {

using Segments = std::vector<Segment>;

double twice_all_but_one(int n) { return 2.0 * (n - 1) / n; }
double all_but_one(int n) { return static_cast<double>(n - 1) / n; }
double one(int) { return 1.0; }

bool everybody(const Place&) { return true; }
bool root_only(const Place& place) { return place.rank == place.root; }

Layout whole(size_t count, int) { return {.send = count, .recv = count, .count = count}; }
Layout gathered(size_t block, int n) {
  return {.send = block, .recv = block * static_cast<size_t>(n), .count = block, .send_in_place = block};
}
Layout scattered(size_t block, int n) {
  return {.send = block * static_cast<size_t>(n), .recv = block, .count = block, .recv_in_place = block};
}
Layout exchanged(size_t block, int n) {
  const size_t all = block * static_cast<size_t>(n);
  return {.send = all, .recv = all, .count = block};
}

Segments reduced_everywhere(const Place&, const Layout& l) { return {{0, l.recv, kReduction, 0}}; }
Segments reduced_block(const Place& p, const Layout& l) {
  return {{0, l.recv, kReduction, static_cast<size_t>(p.rank) * l.count}};
}
Segments reduced_at_root(const Place& p, const Layout& l) {
  return p.rank == p.root ? reduced_everywhere(p, l) : Segments{};
}
Segments from_root(const Place& p, const Layout& l) { return {{0, l.recv, p.root, 0}}; }
Segments block_of_root(const Place& p, const Layout& l) {
  return {{0, l.recv, p.root, static_cast<size_t>(p.rank) * l.count}};
}
Segments from_previous(const Place& p, const Layout& l) { return {{0, l.recv, (p.rank + p.n - 1) % p.n, 0}}; }
Segments block_of_each(const Place& p, const Layout& l) {
  Segments segments;
  for (int source = 0; source < p.n; ++source) {
    segments.push_back({static_cast<size_t>(source) * l.count, l.count, source, 0});
  }
  return segments;
}
Segments block_of_each_at_root(const Place& p, const Layout& l) {
  return p.rank == p.root ? block_of_each(p, l) : Segments{};
}
Segments my_block_of_each(const Place& p, const Layout& l) {
  Segments segments = block_of_each(p, l);
  for (Segment& segment : segments) segment.first = static_cast<size_t>(p.rank) * l.count;
  return segments;
}

// clang-format off
const Collective kCollectives[] = {
    // kind, program, title, -o, rooted, in place, blocks, busbw / algbw, layout, expected, sends
    {Kind::AllReduce, "all_reduce_perf", "AllReduce", OpColumn::Chosen, false, InPlace::Once, false,
     twice_all_but_one, whole, reduced_everywhere, everybody},
    {Kind::AllGather, "all_gather_perf", "AllGather", OpColumn::None, false, InPlace::Repeatable, true,
     all_but_one, gathered, block_of_each, everybody},
    {Kind::ReduceScatter, "reduce_scatter_perf", "ReduceScatter", OpColumn::Chosen, false, InPlace::Once, true,
     all_but_one, scattered, reduced_block, everybody},
    {Kind::Broadcast, "broadcast_perf", "Broadcast", OpColumn::None, true, InPlace::Repeatable, false,
     one, whole, from_root, root_only},
    {Kind::Reduce, "reduce_perf", "Reduce", OpColumn::Chosen, true, InPlace::Once, false,
     one, whole, reduced_at_root, everybody},
    {Kind::AllToAll, "alltoall_perf", "AllToAll", OpColumn::None, false, InPlace::Once, true,
     all_but_one, exchanged, my_block_of_each, everybody},
    {Kind::AllToAllV, "alltoallv_perf", "AllToAllV", OpColumn::None, false, InPlace::No, true,
     all_but_one, exchanged, nullptr, everybody},
    {Kind::Gather, "gather_perf", "Gather", OpColumn::None, true, InPlace::Repeatable, true,
     all_but_one, gathered, block_of_each_at_root, everybody},
    {Kind::Scatter, "scatter_perf", "Scatter", OpColumn::None, true, InPlace::Repeatable, true,
     all_but_one, scattered, block_of_root, root_only},
    // nccl-tests prints `sum` for sendrecv although nothing is reduced; log parsers expect it.
    {Kind::SendRecv, "sendrecv_perf", "SendRecv", OpColumn::Sum, false, InPlace::No, false,
     one, whole, from_previous, everybody},
};
// clang-format on

constexpr uint64_t kAlign = 16;  // nccl-tests starts each rank's block on 16 bytes

}  // namespace

std::span<const Collective> all_collectives() { return kCollectives; }

const Collective* find_collective(std::string_view program) {
  for (const Collective& collective : kCollectives) {
    if (program == collective.program) return &collective;
  }
  return nullptr;
}

uint64_t Traffic::bytes(int from, int to, int n, uint64_t total) const {
  if (!matrix.empty()) return matrix[static_cast<size_t>(from) * static_cast<size_t>(dimension) + to] & ~(kAlign - 1);
  if (n == 1) return total & ~(kAlign - 1);
  const double distance = (to - from + n) % n;
  const double share = (1 - spread) / n + spread * distance / (0.5 * n * (n - 1));
  return static_cast<uint64_t>(static_cast<double>(total) * share) & ~(kAlign - 1);
}

Outcome read_traffic_matrix(const std::string& path, double scale, Traffic* traffic) {
  std::ifstream file(path);
  if (!file) return Outcome::failure("traffic matrix " + path + ": cannot be opened", kExitUsage);
  std::vector<uint64_t> cells;
  size_t rows = 0, columns = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    size_t in_row = 0;
    for (std::string word; words >> word; ++in_row) {
      char* end = nullptr;
      const double value = std::strtod(word.c_str(), &end) * scale;
      if (*end != '\0' || !(value >= 0 && value < 0x1p62)) {
        return Outcome::failure("traffic matrix " + path + ": '" + word + "' is not a number of bytes", kExitUsage);
      }
      cells.push_back(static_cast<uint64_t>(value));
    }
    if (in_row == 0) continue;
    if (rows++ == 0) columns = in_row;
    if (in_row != columns) return Outcome::failure("traffic matrix " + path + ": rows differ in length", kExitUsage);
  }
  if (rows == 0 || rows != columns) {
    return Outcome::failure("traffic matrix " + path + ": has " + std::to_string(rows) + " rows and " +
                                std::to_string(columns) + " columns; it must be square",
                            kExitUsage);
  }
  traffic->matrix = std::move(cells);
  traffic->dimension = static_cast<int>(rows);
  return {};
}

VCounts v_counts(const Traffic& traffic, int rank, int n, uint64_t total_bytes, int element_bytes) {
  VCounts v;
  const auto size = static_cast<uint64_t>(element_bytes);
  size_t sent = 0, received = 0;
  for (int peer = 0; peer < n; ++peer) {
    v.send_counts.push_back(traffic.bytes(rank, peer, n, total_bytes) / size);
    v.recv_counts.push_back(traffic.bytes(peer, rank, n, total_bytes) / size);
    v.send_displs.push_back(sent);
    v.recv_displs.push_back(received);
    sent += v.send_counts.back();
    received += v.recv_counts.back();
  }
  return v;
}

Layout layout_for(const Collective& collective, uint64_t bytes, int element_bytes, int n, const Traffic& traffic) {
  const size_t count = bytes / static_cast<uint64_t>(element_bytes);
  if (!collective.blocks) return collective.layout(count, n);
  const size_t block = (count / static_cast<size_t>(n)) & ~(kAlign / static_cast<size_t>(element_bytes) - 1);
  Layout layout = collective.layout(block, n);
  if (collective.kind != Kind::AllToAllV) return layout;
  const uint64_t total = layout.send * static_cast<uint64_t>(element_bytes);
  layout.send = layout.recv = 0;
  for (int rank = 0; rank < (traffic.matrix.empty() ? 1 : n); ++rank) {  // distances: every rank has the same total
    const VCounts v = v_counts(traffic, rank, n, total, element_bytes);
    layout.send = std::max(layout.send, v.send_displs.back() + v.send_counts.back());
    layout.recv = std::max(layout.recv, v.recv_displs.back() + v.recv_counts.back());
  }
  if (!traffic.matrix.empty()) layout.count = 0;  // no common block, as nccl-tests shows it
  return layout;
}

Segments v_segments(const Traffic& traffic, const Place& place, uint64_t total_bytes, int element_bytes) {
  const VCounts mine = v_counts(traffic, place.rank, place.n, total_bytes, element_bytes);
  Segments segments;
  for (int source = 0; source < place.n; ++source) {
    const VCounts theirs = v_counts(traffic, source, place.n, total_bytes, element_bytes);
    segments.push_back({mine.recv_displs[source], mine.recv_counts[source], source, theirs.send_displs[place.rank]});
  }
  return segments;
}

Bandwidth bandwidth(const Collective& collective, uint64_t bytes, double seconds, int n) {
  if (seconds <= 0) return {};
  const double alg = static_cast<double>(bytes) / seconds / 1e9;
  return {alg, alg * collective.bus_factor(n)};
}

}  // namespace tutti::perf
