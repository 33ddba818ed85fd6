// SPDX-License-Identifier: Apache-2.0
// See recorder.h.
#include "observe/recorder.h"

#include <sys/mman.h>

namespace tutti {

Result<Recorder> Recorder::create() {
  Recorder recorder;
  void* const memory =
      ::mmap(nullptr, kRecords * sizeof(Line), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_status("mmap", "the record of a communicator's calls");
  recorder.lines_ = static_cast<Line*>(memory);  // zeroed: no stamp is valid
  return recorder;
}

Recorder::~Recorder() {
  if (lines_ != nullptr) ::munmap(lines_, kRecords * sizeof(Line));
}

bool Recorder::read(uint64_t index, CallRecord& record) const {
  const Line& line = lines_[index % kRecords];
  if (line.stamp.load(std::memory_order_acquire) != index + 1) return false;
  const auto load = [](const Word& word) { return word.load(std::memory_order_relaxed); };
  const uint64_t what = load(line.what), how = load(line.how);
  record = {.index = index,
            .number = load(line.number),
            .queued = load(line.queued),
            .started = load(line.started),
            .ended = load(line.ended),
            .count = load(line.count),
            .root = static_cast<int32_t>(how >> 32),
            .operation = static_cast<uint8_t>(what >> 24),
            .type = static_cast<uint8_t>(what >> 16),
            .op = static_cast<uint8_t>(what >> 8),
            .flags = static_cast<uint8_t>(what),
            .algorithm = static_cast<uint8_t>(how >> 16),
            .protocol = static_cast<uint8_t>(how >> 8),
            .channels = static_cast<uint8_t>(how)};
  std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the release fence of begin()
  return line.stamp.load(std::memory_order_relaxed) == index + 1;
}

std::vector<CallRecord> Recorder::read_all() const {
  const uint64_t last = begun();
  std::vector<CallRecord> records;
  for (uint64_t index = last < kRecords ? 0 : last - kRecords; index < last; ++index) {
    CallRecord record;
    if (read(index, record)) records.push_back(record);
  }
  return records;
}

}  // namespace tutti
