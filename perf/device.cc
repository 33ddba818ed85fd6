// SPDX-License-Identifier: Apache-2.0
// The two kinds of device, and recordings.
#include "perf/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "perf/json_report.h"
#include "perf/memory.h"
#include "perf/pinning.h"

namespace tutti::perf {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStage = 8 << 20;  // bytes that travel back from a GPU at a time
constexpr unsigned kNonBlocking = 1, kNoTiming = 2;
constexpr int kCaptureThreadLocal = 1;

class Cpu : public Device {
 public:
  explicit Cpu(const Library& library) : l_(library) {}
  bool is_gpu() const override { return false; }
  int ordinal() const override { return TUTTI_DEVICE_CPU; }
  std::string place() const override { return "cpu " + cpu_list(allowed_cpus()); }
  std::string model() const override { return this_machine().cpu_model; }
  uint64_t free_bytes() const override { return available_memory(); }
  Outcome enter() override { return {}; }
  void leave() override {}

  Outcome allocate(size_t bytes, std::byte** at) override {
    bytes = (bytes + kPage - 1) / kPage * kPage;
    *at = static_cast<std::byte*>(std::aligned_alloc(kPage, bytes));
    if (*at == nullptr) return Outcome::failure("no memory for a buffer of " + std::to_string(bytes) + " bytes");
    return set(*at, std::byte{0}, bytes);  // touches every page, in the calling thread
  }
  void release(std::byte* at) override { std::free(at); }
  Outcome set(std::byte* at, std::byte value, size_t bytes) override {
    std::memset(at, static_cast<int>(value), bytes);
    return {};
  }
  Outcome read(const std::byte* at, std::byte* host, size_t bytes) override {
    std::memcpy(host, at, bytes);
    return {};
  }
  Outcome put(const DataSpec& data, int source, size_t first, size_t count, std::byte* at) override {
    fill(data, source, first, count, at);
    return {};
  }
  Outcome count_wrong(const DataSpec& data, int source, size_t first, size_t count, const std::byte* at,
                      uint64_t* wrong) override {
    *wrong = perf::count_wrong(data, source, first, count, at);
    return {};
  }

  Outcome make_stream(tuttiStream_t* stream) override {
    if (l_.StreamCreate == nullptr)
      return Outcome::failure("-y 0: --library " + l_.path() + " has no streams for the CPU", kExitUsage);
    return l_.checked(l_.StreamCreate(stream), "StreamCreate (-y 0)", nullptr);
  }
  void end_stream(tuttiStream_t stream) override { (void)l_.StreamDestroy(stream); }
  Outcome synchronize(tuttiStream_t stream) override {
    if (stream == nullptr) return {};
    return l_.checked(l_.StreamSynchronize(stream), "StreamSynchronize", nullptr);
  }

 private:
  const Library& l_;
};

class Gpu : public Device {
 public:
  Gpu(const Cuda& cuda, int ordinal) : cuda_(cuda), ordinal_(ordinal) {}
  ~Gpu() override {
    if (context_ == nullptr) return;
    if (enter().ok()) {
      if (stage_ != nullptr) (void)cuda_.free_host(stage_);
      if (side_ != nullptr) (void)cuda_.stream_destroy(side_);
      leave();
    }
    (void)cuda_.release(ordinal_);
  }
  Outcome open() {
    Outcome outcome = checked(cuda_.retain(&context_, ordinal_), "cuDevicePrimaryCtxRetain");
    if (!outcome.ok()) return outcome;
    return here([&] { return cuda_.stream_create(&side_, kNonBlocking, 0); }, "cuStreamCreateWithPriority");
  }

  bool is_gpu() const override { return true; }
  int ordinal() const override { return ordinal_; }
  std::string place() const override {
    char text[32] = "?";
    (void)cuda_.bus_id(text, sizeof text, ordinal_);
    return text;
  }
  std::string model() const override {
    char text[96] = "?";
    (void)cuda_.name(text, sizeof text, ordinal_);
    return text;
  }
  uint64_t free_bytes() const override {
    size_t free = 0, total = 0;
    if (cuda_.free_memory != nullptr && cuda_.push(context_) == 0) {
      const int code = cuda_.free_memory(&free, &total);
      void* popped = nullptr;
      (void)cuda_.pop(&popped);
      if (code == 0) return free;
    }
    return cuda_.memory(&total, ordinal_) == 0 ? total : UINT64_MAX;
  }

  Outcome enter() override { return checked(cuda_.push(context_), "cuCtxPushCurrent"); }
  void leave() override {
    void* popped = nullptr;
    (void)cuda_.pop(&popped);
  }

  Outcome allocate(size_t bytes, std::byte** at) override {
    unsigned long long address = 0;
    const Outcome made = here([&] { return cuda_.allocate(&address, bytes); }, "cuMemAlloc");
    if (!made.ok())
      return Outcome::failure("no memory for a buffer of " + std::to_string(bytes) + " bytes: " + made.message());
    *at = reinterpret_cast<std::byte*>(address);
    return set(*at, std::byte{0}, bytes);
  }
  void release(std::byte* at) override {
    (void)here([&] { return cuda_.free(address(at)); }, "cuMemFree").ok();
  }
  Outcome set(std::byte* at, std::byte value, size_t bytes) override {
    if (bytes == 0) return {};
    return settled([&] { return cuda_.set(address(at), static_cast<unsigned char>(value), bytes, side_); },
                   "cuMemsetD8Async");
  }
  Outcome read(const std::byte* at, std::byte* host, size_t bytes) override {
    return settled([&] { return cuda_.copy(address(host), address(at), bytes, side_); }, "cuMemcpyAsync");
  }
  // One period comes from the host; the rest are copies of what is there, each of which doubles it.
  Outcome put(const DataSpec& data, int source, size_t first, size_t count, std::byte* at) override {
    if (count == 0) return {};
    const auto size = static_cast<size_t>(data.type->bytes);
    const size_t all = count * size;
    size_t done = std::min(count, kPeriod) * size;
    std::vector<std::byte> period(done);
    fill(data, source, first, done / size, period.data());
    return settled(
        [&] {
          int code = cuda_.copy(address(at), address(period.data()), done, side_);
          while (code == 0 && done < all) {
            const size_t more = std::min(all - done, done);
            code = cuda_.copy(address(at + done), address(at), more, side_);
            done += more;
          }
          return code;
        },
        "cuMemcpyAsync");
  }
  Outcome count_wrong(const DataSpec& data, int source, size_t first, size_t count, const std::byte* at,
                      uint64_t* wrong) override {
    const auto size = static_cast<size_t>(data.type->bytes);
    *wrong = 0;
    if (stage_ == nullptr) {
      const Outcome made = here([&] { return cuda_.allocate_host(&stage_, kStage, 0); }, "cuMemHostAlloc");
      if (!made.ok()) return made;
    }
    auto* const stage = static_cast<std::byte*>(stage_);
    for (size_t done = 0; done < count;) {
      const size_t some = std::min(count - done, kStage / size);
      const Outcome outcome = read(at + done * size, stage, some * size);
      if (!outcome.ok()) return outcome;
      *wrong += perf::count_wrong(data, source, first + done, some, stage);
      done += some;
    }
    return {};
  }

  Outcome make_stream(tuttiStream_t* stream) override {
    void* made = nullptr;
    const Outcome outcome =
        here([&] { return cuda_.stream_create(&made, kNonBlocking, 0); }, "cuStreamCreateWithPriority");
    *stream = static_cast<tuttiStream_t>(made);
    return outcome;
  }
  void end_stream(tuttiStream_t stream) override {
    (void)here([&] { return cuda_.stream_destroy(stream); }, "cuStreamDestroy").ok();
  }
  Outcome synchronize(tuttiStream_t stream) override {
    return here([&] { return cuda_.stream_synchronize(stream); }, "cuStreamSynchronize");
  }

 private:
  static unsigned long long address(const std::byte* at) { return reinterpret_cast<unsigned long long>(at); }
  Outcome checked(int code, const char* call) const { return cuda_.checked(code, call, ordinal_); }
  template <class Call>
  Outcome here(Call call, const char* name) {
    const Outcome entered = enter();
    if (!entered.ok()) return entered;
    const int code = call();
    leave();
    return checked(code, name);
  }
  // Puts work on the stream of our own and waits for it.
  template <class Call>
  Outcome settled(Call call, const char* name) {
    const Outcome queued = here(call, name);
    return queued.ok() ? synchronize(static_cast<tuttiStream_t>(side_)) : queued;
  }

  const Cuda& cuda_;
  const int ordinal_;
  void* context_ = nullptr;
  void* side_ = nullptr;   // a stream for filling and reading
  void* stage_ = nullptr;  // pinned
};

}  // namespace

std::unique_ptr<Device> make_cpu(const Library& library) { return std::make_unique<Cpu>(library); }

Outcome make_gpu(const Cuda& cuda, int ordinal, std::unique_ptr<Device>* device) {
  auto made = std::make_unique<Gpu>(cuda, ordinal);
  const Outcome opened = made->open();
  *device = std::move(made);
  return opened;
}

Recording::~Recording() {
  if (exec_ != nullptr) (void)cuda_.graph_exec_destroy(exec_);
  if (graph_ != nullptr) (void)cuda_.graph_destroy(graph_);
  for (const auto& [device, event] : events_) {
    const CurrentDevice current(*device);
    (void)cuda_.event_destroy(event);
  }
}

Outcome Recording::join(size_t from, size_t to) {
  Device& device = *places_[from].device;
  void* event = nullptr;
  {
    const CurrentDevice current(device);
    if (!current.outcome().ok()) return current.outcome();
    Outcome outcome = cuda_.checked(cuda_.event_create(&event, kNoTiming), "cuEventCreate", device.ordinal());
    if (!outcome.ok()) return outcome;
    events_.emplace_back(&device, event);
    outcome = cuda_.checked(cuda_.event_record(event, places_[from].stream), "cuEventRecord", device.ordinal());
    if (!outcome.ok()) return outcome;
  }
  const CurrentDevice current(*places_[to].device);
  if (!current.outcome().ok()) return current.outcome();
  return cuda_.checked(cuda_.stream_wait(places_[to].stream, event, 0), "cuStreamWaitEvent",
                       places_[to].device->ordinal());
}

Outcome Recording::begin() {
  {
    const CurrentDevice current(*places_[0].device);
    if (!current.outcome().ok()) return current.outcome();
    const Outcome begun = cuda_.checked(cuda_.capture_begin(places_[0].stream, kCaptureThreadLocal),
                                        "cuStreamBeginCapture", places_[0].device->ordinal());
    if (!begun.ok()) return begun;
  }
  for (size_t i = 1; i < places_.size(); ++i) {
    const Outcome joined = join(0, i);
    if (!joined.ok()) return joined;
  }
  return {};
}

Outcome Recording::end() {
  Outcome outcome;
  for (size_t i = 1; outcome.ok() && i < places_.size(); ++i) outcome = join(i, 0);
  const int ordinal = places_[0].device->ordinal();
  const CurrentDevice current(*places_[0].device);
  if (!current.outcome().ok()) return current.outcome();
  const Outcome ended = cuda_.checked(cuda_.capture_end(places_[0].stream, &graph_), "cuStreamEndCapture", ordinal);
  if (!outcome.ok() || !ended.ok()) return outcome.ok() ? ended : outcome;
  return cuda_.checked(cuda_.graph_instantiate(&exec_, graph_, 0), "cuGraphInstantiate", ordinal);
}

Outcome Recording::launch() {
  const CurrentDevice current(*places_[0].device);
  if (!current.outcome().ok()) return current.outcome();
  return cuda_.checked(cuda_.graph_launch(exec_, places_[0].stream), "cuGraphLaunch", places_[0].device->ordinal());
}

}  // namespace tutti::perf
