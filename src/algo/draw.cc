// SPDX-License-Identifier: Apache-2.0
// Pictures of schedules as text.
#include "algo/draw.h"

#include <fmt/format.h>

#include <algorithm>

namespace tutti {
namespace {

std::string draw_peers(const Peers& peers) {
  if (peers.others()) return "*";
  std::string text;
  for (int i = 0; i < peers.count; ++i) text += fmt::format("{}{}", i ? "," : "", peers.at(i, -1));
  return text;
}

std::string draw_blocks(const Step& step, int n) {
  if (step.packed()) {
    // Numbers of ranks or places: where the result is kept for good, or else where it was read.
    const bool kept = step.dst_block >= 0 && (step.dst == Buffer::Output || step.src == Buffer::None);
    std::string text;
    for (int i = 0; i < step.blocks; ++i)
      text += fmt::format("{}{}", i ? "," : "", kept ? step.target_at(i, n) : step.source_at(i, n));
    return "[" + text + "]";
  }
  const int first = step.dst_block >= 0 ? step.dst_block : step.src_block, last = first + step.blocks - 1;
  return last == first ? fmt::format("[{}]", first) : fmt::format("[{}-{}]", first, last);
}

// "{0 1} {2 3}": the ranks of each host.
std::string draw_hosts(const HostMap& map) {
  std::string text;
  for (int host = 0; host < map.hosts; ++host) {
    text += host ? " {" : "{";
    for (int i = 0; i < map.size(host); ++i) text += fmt::format("{}{}", i ? " " : "", map.rank(host, i));
    text += "}";
  }
  return text;
}

using Table = std::vector<std::vector<std::string>>;

std::string pad_columns(const Table& table) {
  std::vector<size_t> widths;
  for (const auto& line : table) {
    widths.resize(std::max(widths.size(), line.size()));
    for (size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  }
  std::string text;
  for (const auto& line : table) {
    for (size_t c = 0; c < line.size(); ++c) text += fmt::format("{:<{}}", line[c], widths[c] + 2);
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

}  // namespace

std::string draw_step(const Step& step, bool with_blocks, int n) {
  switch (step.access) {
    case Access::Open:
      return "open>" + draw_peers(step.to);
    case Access::Enter:
      return draw_peers(step.from) + ">enter";
    case Access::Leave:
      return draw_peers(step.from) + ">leave";
    case Access::Close:
      return "close>" + draw_peers(step.to);
    case Access::None:
    case Access::Remote:
      break;
  }
  const std::string at = step.access == Access::Remote ? "@" : "";
  std::string text = step.from.none() ? "" : draw_peers(step.from) + at + ">";
  if (step.src == Buffer::Output) text += 'O';
  if (step.src == Buffer::Scratch) text += 'M';
  if (!step.from.none()) text += 'R';
  if (step.reduce) text += 'R';
  if (step.dst_block >= 0) text += step.dst == Buffer::Scratch ? 'M' : 'C';
  if (!step.to.none()) text += 'S';
  if (with_blocks) text += draw_blocks(step, n);
  return step.to.none() ? text : text + ">" + draw_peers(step.to) + at;
}

std::string draw_schedule(const CatalogRow& row, Ranks ranks, int root) {
  const int n = ranks.n;
  struct Line {
    std::string title;
    AnySchedule schedule;
  };
  std::vector<Line> lines;
  int steps = 0;
  bool with_blocks = false;
  for (int part = 0; part < row.parts(ranks); ++part) {
    for (int me = 0; me < n; ++me) {
      ScheduleArgs args{.me = me,
                        .n = n,
                        .root = root,
                        .part = part,
                        .hosts = ranks.hosts,
                        .user = ranks.user,
                        .channel_map = ranks.channels};
      if (row.coll == Coll::SendRecv) args.root = wrap(part == 0 ? me + 1 : me - 1, n);
      const std::string title =
          fmt::format("rank {}", me) + (row.parts(ranks) > 1 ? fmt::format(" part {}", part) : "");
      lines.push_back({title, row.make(args)});
      const AnySchedule& schedule = lines.back().schedule;
      steps = std::max(steps, schedule.steps());
      for (int k = 0; k < schedule.steps(); ++k) {
        const Step step = schedule.at(k);
        with_blocks |= step.packed() || step.blocks > 1 || step.dst_block > 0 || step.src_block > 0;
      }
    }
  }
  Table table{{"k"}};
  for (int k = 0; k < steps; ++k) table[0].push_back(std::to_string(k));
  for (const Line& line : lines) {
    table.push_back({line.title});
    for (int k = 0; k < line.schedule.steps(); ++k) {
      table.back().push_back(draw_step(line.schedule.at(k), with_blocks, n));
    }
  }
  const std::string on = (row.needs & kHosts) && ranks.hosts != nullptr ? " on " + draw_hosts(*ranks.hosts) : "";
  return fmt::format("{} {}, {} ranks{}\n{}", name(row.coll), name(row.algo), n, on, pad_columns(table));
}

}  // namespace tutti
