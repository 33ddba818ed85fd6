// SPDX-License-Identifier: Apache-2.0
// Ranks of one process on the fake driver's GPUs, with a stream and buffers of floats for each.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/atomic.h"
#include "comm_cuda/last_call.h"
#include "gpu/cuda_stream.h"
#include "tests/gpu/fake_control.h"
#include "tutti/tutti.h"

namespace tutti {

// Before the library reads its environment. The fake's fibers take ten times as long for lines of 128 bytes as for
// anything else: tests of these ask for them.
inline const bool uses_fake_driver = [] {
  setenv("TUTTI_CUDA_LIBRARY", FAKE_CUDA, 1);
  setenv("TUTTI_PROTO", "^ll128", 0);
  return true;
}();

inline std::string last_text() { return tuttiGetLastError(nullptr); }

// A word in pinned memory, on which a stream can be held.
class Hold {
 public:
  explicit Hold(const gpu::CudaDevicePtr& gpu) : memory_(*gpu::allocate_pinned(gpu, 64)) {}
  void stop(const gpu::CudaStream& stream) const {
    EXPECT_TRUE(stream.wait_value(reinterpret_cast<uintptr_t>(memory_.get()), 1).ok());
  }
  void go_on() const { store_release(*static_cast<uint64_t*>(memory_.get()), 1); }

 private:
  gpu::PinnedMemory memory_;
};

class Ranks {
 public:
  static constexpr size_t kCount = 100;

  enum Kind : bool { kNonBlocking, kBlocking };
  // `devices`: of each rank. `protocols`: what the planner is restricted to; null: nothing.
  explicit Ranks(std::vector<int> devices, Kind kind = kBlocking, const char* protocols = nullptr)
      : devices_(std::move(devices)), comms(devices_.size()) {
    if (kind == kBlocking && protocols == nullptr) {
      EXPECT_EQ(tuttiCommInitAll(comms.data(), n(), devices_.data()), TUTTI_SUCCESS) << last_text();
    } else {
      init(kind, protocols);
    }
    for (const int device : devices_) {
      gpus.push_back(gpu::device(device));
      owned_.push_back(*gpu::make_stream(gpus.back()));
      streams.emplace_back(gpus.back(), owned_.back().get());
      in_.push_back(*gpu::allocate_device(gpus.back(), kCount * sizeof(float)));
      out_.push_back(*gpu::allocate_device(gpus.back(), kCount * sizeof(float)));
    }
    fill(1);
  }
  ~Ranks() {
    for (const tuttiComm_t comm : comms) EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << last_text();
  }

  int n() const { return static_cast<int>(devices_.size()); }
  // The fake's memory is the host's.
  float* in(int rank) const { return reinterpret_cast<float*>(in_[static_cast<size_t>(rank)].get()); }
  float* out(int rank) const { return reinterpret_cast<float*>(out_[static_cast<size_t>(rank)].get()); }
  tuttiStream_t stream(int rank) const {
    return reinterpret_cast<tuttiStream_t>(streams[static_cast<size_t>(rank)].handle());
  }
  tuttiComm_t comm(int rank) const { return comms[static_cast<size_t>(rank)]; }
  // Until nothing of a non-blocking communicator is under way; ctest ends a test that waits for ever.
  tuttiResult_t await(int rank) const { return await(comm(rank)); }
  static tuttiResult_t await(tuttiComm_t comm) {
    tuttiResult_t result = TUTTI_IN_PROGRESS;
    while (result == TUTTI_IN_PROGRESS) {
      EXPECT_EQ(tuttiCommGetAsyncError(comm, &result), TUTTI_SUCCESS) << last_text();
      if (result == TUTTI_IN_PROGRESS) usleep(200);
    }
    return result;
  }
  // Element i of rank r: (r + 1) * factor + i.
  void fill(float factor) const {
    for (int r = 0; r < n(); ++r) {
      for (size_t i = 0; i < kCount; ++i) in(r)[i] = static_cast<float>(r + 1) * factor + static_cast<float>(i);
    }
  }
  tuttiResult_t all_reduce(int rank, tuttiStream_t on) const {
    return tuttiAllReduce(in(rank), out(rank), kCount, TUTTI_FLOAT32, TUTTI_SUM, comm(rank), on);
  }
  // One AllReduce of all ranks, in a group, each on its own stream.
  tuttiResult_t all_reduce_together() const {
    EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < n(); ++r) EXPECT_EQ(all_reduce(r, stream(r)), TUTTI_SUCCESS) << last_text();
    return tuttiGroupEnd();
  }
  void synchronize() const {
    for (const gpu::CudaStream& one : streams) EXPECT_TRUE(one.synchronize().ok());
  }
  // The sums of fill(factor) are in every rank's output.
  void expect_sums(float factor) const {
    const auto ranks = static_cast<float>(n());
    for (int r = 0; r < n(); ++r) {
      for (size_t i = 0; i < kCount; ++i)
        ASSERT_EQ(out(r)[i], factor * ranks * (ranks + 1) / 2 + ranks * static_cast<float>(i))
            << "rank " << r << " at " << i;
    }
  }

 private:
  void init(Kind kind, const char* protocols) {
    tuttiUniqueId id;
    EXPECT_EQ(tuttiGetUniqueId(&id), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < n(); ++r) {
      tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
      config.blocking = kind;
      config.protocols = protocols;
      config.device = devices_[static_cast<size_t>(r)];
      EXPECT_EQ(tuttiCommInitRankConfig(&comms[static_cast<size_t>(r)], n(), id, r, &config), TUTTI_SUCCESS)
          << last_text();
    }
    EXPECT_EQ(tuttiGroupEnd(), kind == kBlocking ? TUTTI_SUCCESS : TUTTI_IN_PROGRESS) << last_text();
    for (int r = 0; r < n(); ++r) EXPECT_EQ(await(r), TUTTI_SUCCESS) << tuttiGetLastError(comm(r));
  }

  std::vector<int> devices_;
  std::vector<gpu::OwnedStream> owned_;
  std::vector<gpu::DeviceMemory> in_, out_;

 public:
  std::vector<tuttiComm_t> comms;
  std::vector<gpu::CudaDevicePtr> gpus;
  std::vector<gpu::CudaStream> streams;
};

}  // namespace tutti
