// SPDX-License-Identifier: Apache-2.0
// Dump files as `tutti trace` reads them: any text, and everything that is made of what was read.
#include <cmath>
#include <string>

#include "fuzz/target.h"
#include "tools/tutti/dumps.h"

using namespace tutti;

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const auto dump = [](const char* boot, int rank, const char* calls) {
    const std::string text = fmt::format(
        R"({{"format":"tutti dump","version":1,"reason":"request","host":"{}","process":1,"clock":{{"boot":"{}",)"
        R"("ticks_per_second":2e9,"ticks":90000,"unix_ns":1700000000000000000}},"communicators":[)"
        R"({{"name":"c","id":"77","rank":{},"ranks":2,"waited_for":[],"calls":[{}]}}]}})",
        boot, boot, rank, calls);
    return Input(text.begin(), text.end());
  };
  const char* const calls =
      R"({"index":0,"number":1,"operation":"all_reduce","count":4,"type":"float32","bytes":16,"operator":"sum",)"
      R"("algorithm":"ring","protocol":"ll","channels":1,"queued":5,"started":7,"ended":900},)"
      R"({"index":1,"number":1,"operation":"send","count":4,"type":"int8","bytes":4,"peer":1,)"
      R"("algorithm":"direct","protocol":"ll","channels":1,"queued":1000,"started":1000,"ended":0})";
  const Input bar{0};
  return {dump("a", 0, calls), dump("a", 0, calls) + bar + dump("b", 1, calls), dump("a", 1, "")};
}

// A zero byte ends a file, so that one input holds several hosts' dumps.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  std::vector<tool::DumpedRank> ranks;
  for (size_t at = 0; at <= all.size();) {
    const size_t end = std::min(all.find('\0', at), all.size());
    auto one = tool::parse_dump(all.substr(at, end - at), "file");
    if (one.ok()) ranks.insert(ranks.end(), one->begin(), one->end());
    at = end + 1;
  }
  if (ranks.empty()) return 0;
  const tool::Timeline timeline(std::move(ranks));
  for (const tool::DumpedRank& rank : timeline.ranks()) {
    for (const tool::DumpedCall& call : rank.calls)
      fuzz::require(std::isfinite(timeline.seconds(rank, call.started)), "a time that is none");
  }
  (void)tool::find_stragglers(timeline, 1e-5);
  fuzz::require(!tool::chrome_trace(timeline).empty(), "no picture");
  return 0;
}
