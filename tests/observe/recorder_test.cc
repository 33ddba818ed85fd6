// SPDX-License-Identifier: Apache-2.0
// The ring of calls: what it keeps, what it forgets, and that a reader beside the writer never sees half a record.
#include "observe/recorder.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/ticks.h"

namespace tutti {
namespace {

CallRecord call(uint64_t value) {
  return {.number = value,
          .queued = value,
          .started = value,
          .count = value,
          .root = static_cast<int32_t>(value & 0xffff),
          .operation = static_cast<uint8_t>(value),
          .type = static_cast<uint8_t>(value),
          .op = static_cast<uint8_t>(value),
          .flags = static_cast<uint8_t>(value),
          .algorithm = static_cast<uint8_t>(value),
          .protocol = static_cast<uint8_t>(value),
          .channels = static_cast<uint8_t>(value)};
}
void expect_whole(const CallRecord& record, uint64_t value) {
  EXPECT_EQ(record.number, value);
  EXPECT_EQ(record.queued, value);
  EXPECT_EQ(record.started, value);
  EXPECT_EQ(record.count, value);
  EXPECT_EQ(record.root, static_cast<int32_t>(value & 0xffff));
  for (const uint8_t code :
       {record.operation, record.type, record.op, record.flags, record.algorithm, record.protocol, record.channels})
    EXPECT_EQ(code, static_cast<uint8_t>(value));
}

TEST(Recorder, KeepsWhatWasRecordedInOrder) {
  Recorder recorder = *Recorder::create();
  EXPECT_TRUE(recorder.read_all().empty());
  for (uint64_t value = 1; value <= 3; ++value) EXPECT_EQ(recorder.begin(call(value)), value - 1);
  recorder.end(1, 77);
  const std::vector<CallRecord> all = recorder.read_all();
  ASSERT_EQ(all.size(), 3u);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all[i].index, i);
    EXPECT_EQ(all[i].ended, i == 1 ? 77u : 0u);
    expect_whole(all[i], i + 1);
  }
}

TEST(Recorder, KeepsTheLast1024AndEndsNoOtherCallInTheirPlace) {
  Recorder recorder = *Recorder::create();
  for (uint64_t value = 0; value < 3000; ++value) recorder.begin(call(value));
  recorder.end(3000 - 1 - Recorder::kRecords, 5);  // the ring has come round since
  const std::vector<CallRecord> all = recorder.read_all();
  ASSERT_EQ(all.size(), Recorder::kRecords);
  EXPECT_EQ(all.front().index, 3000 - Recorder::kRecords);
  for (const CallRecord& record : all) {
    EXPECT_EQ(record.ended, 0u);
    expect_whole(record, record.index);
  }
}

TEST(Recorder, AReaderBesideTheWriterSeesWholeRecords) {
  Recorder recorder = *Recorder::create();
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (uint64_t value = 0; value < 200'000; ++value) recorder.end(recorder.begin(call(value)), value + 1);
    over.store(true);
  });
  uint64_t seen = 0;
  while (!over.load() || seen == 0) {
    for (const CallRecord& record : recorder.read_all()) {
      expect_whole(record, record.index);
      EXPECT_TRUE(record.ended == 0 || record.ended == record.index + 1);
      ++seen;
    }
    if (::testing::Test::HasFailure()) break;
  }
  writer.join();
  EXPECT_GT(seen, 0u);
}

TEST(Ticks, RunAtTheRateThatIsStated) {
  start_tick_clock();
  const TickClock before = read_tick_clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const TickClock after = read_tick_clock();
  const double wall = static_cast<double>(after.now_unix_ns - before.now_unix_ns) * 1e-9;
  EXPECT_NEAR(before.seconds(before.now_ticks, after.now_ticks), wall, 0.02 * wall);
}

}  // namespace
}  // namespace tutti
