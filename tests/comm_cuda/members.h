// SPDX-License-Identifier: Apache-2.0
// Members: ranks as forked processes on the fake driver's GPUs, or on the CPU, each with a stream and buffers of
// floats. The process of the test never touches the library or the driver: neither survives fork().
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "api/harness.h"
#include "gpu/cuda_stream.h"
#include "tests/gpu/fake_control.h"

namespace tutti {

using api_test::Environment;

inline std::string last_text() { return tuttiGetLastError(nullptr); }

// Counters that all processes of a test share.
struct Meeting {
  std::atomic<int> arrived{0};
  void arrive() { ++arrived; }
  void await(int all) const {
    while (arrived.load() < all) usleep(200);
  }
};

class Member {
 public:
  static constexpr size_t kCount = 5000;

  Member(int rank, int n, int device, const tuttiUniqueId& id, bool blocking = true) : rank_(rank), n_(n) {
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.device = device;
    config.blocking = blocking;
    const tuttiResult_t begun = tuttiCommInitRankConfig(&comm, n, id, rank, &config);
    EXPECT_EQ(begun, blocking ? TUTTI_SUCCESS : TUTTI_IN_PROGRESS) << last_text();
    if (comm == nullptr) return;
    EXPECT_EQ(settled(begun), TUTTI_SUCCESS) << tuttiGetLastError(comm);
    const size_t count = static_cast<size_t>(n) * kCount;
    if (device >= 0) {
      gpu = gpu::device(device);
      owned_ = *gpu::make_stream(gpu);
      in_ = *gpu::allocate_device(gpu, count * sizeof(float));
      out_ = *gpu::allocate_device(gpu, count * sizeof(float));
    } else {
      EXPECT_EQ(tuttiStreamCreate(&cpu_stream_), TUTTI_SUCCESS) << last_text();
      cpu_in_.resize(count);
      cpu_out_.resize(count);
    }
    for (size_t i = 0; i < count; ++i) in()[i] = value(rank, i);
  }
  ~Member() {
    destroy();
    if (cpu_stream_ != nullptr) {
      EXPECT_EQ(tuttiStreamDestroy(cpu_stream_), TUTTI_SUCCESS) << last_text();
    }
  }
  void destroy() {
    if (comm == nullptr) return;
    EXPECT_EQ(tuttiCommDestroy(std::exchange(comm, nullptr)), TUTTI_SUCCESS) << last_text();
  }
  bool on_cpu() const { return gpu == nullptr; }

  static float value(int rank, size_t i) { return static_cast<float>(rank + 1) * 2 + static_cast<float>(i % 1000); }
  float sum(size_t i) const {
    return static_cast<float>(n_ * (n_ + 1)) + static_cast<float>(n_) * static_cast<float>(i % 1000);
  }
  // The fake's memory is the host's.
  float* in() { return on_cpu() ? cpu_in_.data() : reinterpret_cast<float*>(in_.get()); }
  float* out() { return on_cpu() ? cpu_out_.data() : reinterpret_cast<float*>(out_.get()); }
  gpu::CudaStream stream() const { return {gpu, owned_.get()}; }
  tuttiStream_t handle() const { return on_cpu() ? cpu_stream_ : reinterpret_cast<tuttiStream_t>(owned_.get()); }

  tuttiResult_t all_reduce(size_t count = kCount) {
    return settled(tuttiAllReduce(in(), out(), count, TUTTI_FLOAT32, TUTTI_SUM, comm, handle()));
  }
  // What becomes of a call that a non-blocking communicator may have in progress.
  tuttiResult_t settled(tuttiResult_t code) const {
    while (code == TUTTI_IN_PROGRESS) {
      usleep(200);
      code = condition();
    }
    return code;
  }
  void expect_sums(size_t count = kCount) {
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(out()[i], sum(i)) << "rank " << rank_ << " at " << i;
  }
  void synchronize() const {
    if (on_cpu()) {
      EXPECT_EQ(tuttiStreamSynchronize(cpu_stream_), TUTTI_SUCCESS) << last_text();
    } else {
      EXPECT_TRUE(stream().synchronize().ok());
    }
  }
  // After a failure: the kernels have ended all the same.
  void come_to_rest() const {
    if (on_cpu()) {
      EXPECT_NE(tuttiStreamSynchronize(cpu_stream_), TUTTI_SUCCESS);
    } else {
      EXPECT_TRUE(stream().synchronize().ok());
    }
  }
  tuttiResult_t condition() const {
    tuttiResult_t result = TUTTI_SUCCESS;
    EXPECT_EQ(tuttiCommGetAsyncError(comm, &result), TUTTI_SUCCESS);
    return result;
  }
  // Until the communicator has failed, which the launcher's limit bounds.
  tuttiResult_t await_failure() const {
    tuttiResult_t result = TUTTI_SUCCESS;
    while ((result = condition()) == TUTTI_SUCCESS) usleep(500);
    return result;
  }
  // What a later call says.
  std::string failure_text() {
    EXPECT_NE(all_reduce(), TUTTI_SUCCESS);
    return last_text();
  }
  int rank() const { return rank_; }
  int n() const { return n_; }

 private:
  int rank_, n_;
  gpu::OwnedStream owned_;
  gpu::DeviceMemory in_, out_;
  tuttiStream_t cpu_stream_ = nullptr;
  std::vector<float> cpu_in_, cpu_out_;

 public:
  tuttiComm_t comm = nullptr;
  gpu::CudaDevicePtr gpu;
};

// Nothing is left once the others have let go too.
inline void expect_nothing_left() {
  while (gpu::alive() != 0) usleep(500);
}

inline constexpr const char* kAllReach = "1";

// Where the processes are.
struct Seating {
  const char* name;
  int gpus;                       // rank r is on GPU r % gpus
  const char* peers = kAllReach;  // which GPUs reach each other's memory (FAKE_CUDA_PEERS)
  int hosts = 1;                  // as the ranks believe, with equal runs of them
  int cpu = -1;                   // this rank is on the CPU
  bool blocking = true;
  bool all_reach() const { return std::string(peers) == kAllReach; }
  bool shares_gpus(int n) const { return gpus < n; }
  // Some slots are carried by a transport.
  bool bridged() const { return hosts > 1 || cpu >= 0; }
  int device_of(int rank) const { return rank == cpu ? TUTTI_DEVICE_CPU : rank % gpus; }
  // In the process of the rank, before it uses the library.
  void take(int rank, int n) const {
    setenv("TUTTI_CUDA_LIBRARY", FAKE_CUDA, 1);
    setenv("FAKE_CUDA_DEVICES", "4", 1);
    setenv("TUTTI_PROTO", "^ll128", 0);  // as in ranks.h
    setenv("FAKE_CUDA_PEERS", peers, 1);
    if (hosts > 1) setenv("TUTTI_HOST_ID", ("host" + std::to_string(rank * hosts / n)).c_str(), 1);
  }
};

class InProcesses : public testing::Test {
 protected:
  // body(member) in a process for each rank; then the communicator is destroyed, and nothing may be left.
  static void in_processes(int n, const Seating& seating,
                           const std::function<void(Member& member, Meeting& meeting)>& body,
                           const Environment& more = {}) {
    void* const memory = ::mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* const meeting = new (memory) Meeting;
    api_test::in_children(
        n,
        [&](int rank, launcher::Page& page) {
          seating.take(rank, n);
          const tuttiUniqueId id = api_test::shared_id(rank, page);
          {
            Member member(rank, n, seating.device_of(rank), id, seating.blocking);
            ASSERT_NE(member.comm, nullptr);
            body(member, *meeting);
          }
          if (rank != seating.cpu) expect_nothing_left();
        },
        more);
    ::munmap(memory, sizeof(Meeting));
  }
};

class Processes : public InProcesses, public testing::WithParamInterface<Seating> {
 protected:
  static constexpr int kRanks = 3;

  void in_processes(const std::function<void(Member& member, Meeting& meeting)>& body, const Environment& more = {}) {
    InProcesses::in_processes(kRanks, GetParam(), body, more);
  }
};

}  // namespace tutti
