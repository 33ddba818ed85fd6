// SPDX-License-Identifier: Apache-2.0
// Slots in memory of a GPU: by which way devices get it, what is flushed when, and that the CPU touches none of it. The
// memory here has no kernels: at the address that the transport is told nobody may read or write, and the test, in the
// place of a kernel, looks at the same pages elsewhere.
#include <gmock/gmock.h>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/atomic.h"
#include "tests/transports/look_alikes.h"
#include "tests/transports/rdma_stage.h"
#include "transports/rdma/rdma_devices.h"
#include "transports/rdma/rdma_gpu.h"

namespace tutti::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr SlotCut kCut{4096, 4};

// What a device has written the "kernel" sees at once, or, if `late`, only after flush().
class TestSlots final : public GpuSlots {
 public:
  TestSlots(uint64_t bytes, bool late) : bytes_(bytes), late_(late) {
    object_.reset(::memfd_create("fake-cuda-device", MFD_CLOEXEC));
    if (::ftruncate(object_.get(), static_cast<off_t>(bytes)) != 0) ::abort();
    base_ = map(PROT_NONE);
    pages_ = map(PROT_READ | PROT_WRITE);
    descriptor_ = reopened();
    if (late) seen_.resize(bytes);
  }
  ~TestSlots() override {
    ::munmap(base_, bytes_);
    ::munmap(pages_, bytes_);
  }
  std::byte* base() const override { return base_; }
  uint64_t bytes() const override { return bytes_; }
  const Result<UniqueFd>& dma_buf() const override { return descriptor_; }
  void registered() override {
    descriptor_ = UniqueFd();
    registered_ = true;
  }
  Status flush() override {
    ++flushes;
    std::memcpy(seen_.data(), pages_, bytes_);
    return failure;
  }
  // As a kernel finds a slot.
  std::byte* write(const std::byte* slot) const { return pages_ + (slot - base_); }
  const std::byte* read(const std::byte* slot) const { return (late_ ? seen_.data() : pages_) + (slot - base_); }
  bool is_registered() const { return registered_; }
  void refuse_descriptor() { descriptor_ = error(Code::SystemError, "the driver has no words for it"); }

  int flushes = 0;
  Status failure;

 private:
  std::byte* map(int rights) const {
    void* const at = ::mmap(nullptr, bytes_, rights, MAP_SHARED, object_.get(), 0);
    return at != MAP_FAILED ? static_cast<std::byte*>(at) : nullptr;
  }
  UniqueFd reopened() const {
    return UniqueFd(::open(("/proc/self/fd/" + std::to_string(object_.get())).c_str(), O_RDWR | O_CLOEXEC));
  }
  uint64_t bytes_;
  bool late_, registered_ = false;
  UniqueFd object_;
  std::byte *base_ = nullptr, *pages_ = nullptr;
  Result<UniqueFd> descriptor_ = UniqueFd();
  std::vector<std::byte> seen_;
};

struct Where {
  bool out = true, in = true;  // on GPUs
  bool late = false;
};

// The ends of rank 0 towards rank 1, and how their slots are looked at.
class Ends {
 public:
  Ends(Player& p, const Where& where) : p_(p) {
    Transport& transport = *p.transport;
    const Flow flow = p.me == 0 ? Flow::Out : Flow::In;
    if (p.me == 0 ? where.out : where.in) {
      const uint64_t bytes = transport.wants_gpu_slots(1 - p.me, flow);
      if (bytes > 0) slots = std::make_shared<TestSlots>(bytes, where.late);
    }
    if (p.me == 0)
      out = *transport.send_end_on_gpu(1, 0, Use::Collective, slots);
    else
      in = *transport.receive_end_on_gpu(0, 0, Use::Collective, slots);
  }
  bool on_gpu() const { return p_.me == 0 ? out->slots_on_gpu : in->slots_on_gpu; }

  bool send(uint64_t bytes, uint64_t seed) {
    SimpleSender& simple = out->simple;
    if (!p_.until([&] { return simple.cut(kCut) && simple.has_room(); }, "room")) return false;
    std::byte* const slot = on_gpu() ? slots->write(simple.slot()) : simple.slot();
    fill({slot, bytes}, seed);
    simple.publish(bytes, 7);
    return true;
  }
  bool receive(uint64_t bytes, uint64_t seed) {
    SimpleReceiver& simple = in->simple;
    simple.cut(kCut);
    if (!p_.until([&] { return simple.ready(); }, "a message")) return false;
    const std::byte* const slot = on_gpu() ? slots->read(simple.slot()) : simple.slot();
    const bool right = simple.matches(7) && simple.descriptor().bytes == bytes && holds({slot, bytes}, seed);
    simple.release();
    return right;
  }
  // Rank 0 sends them, rank 1 receives them: none, small ones that else ride in letters, and whole slots.
  void carry(
      uint64_t first, uint64_t count, const std::function<void(uint64_t)>& sent = [](uint64_t) {}) {
    for (uint64_t m = first; m < first + count; ++m) {
      const uint64_t bytes = m % 4 == 0 ? 0 : m % 4 == 1 ? 1 : m % 4 == 2 ? 216 : 4096;
      if (p_.me == 0) {
        ASSERT_TRUE(send(bytes, m)) << m;
        sent(m);
      } else {
        ASSERT_TRUE(receive(bytes, m)) << m;
      }
    }
    ASSERT_TRUE(p_.flush());
  }

  std::shared_ptr<TestSlots> slots;
  SendEnd* out = nullptr;
  ReceiveEnd* in = nullptr;

 private:
  Player& p_;
};

class RdmaOfGpus : public OnLookAlikes {
 protected:
  static void between_two(const RdmaGpuOptions& gpu, const Body& body) {
    between_two_of(
        [&](Player& p) {
          RdmaSettings settings = rdma_settings();
          settings.timeout = 14;
          Result<RdmaSetup> setup = meet_over_rdma(p, {0, 1}, "rdma of gpus", settings);
          if (setup.ok()) setup->options.gpu = gpu;
          return setup;
        },
        body);
  }
  static RdmaGpuOptions gpu(bool flush = false) { return {.name = "CUDA device 0", .flush = flush}; }
};

TEST_F(RdmaOfGpus, CarryMessagesThatNoCpuTouches) {
  for (const Where& where : {Where{true, true}, Where{true, false}, Where{false, true}}) {
    SCOPED_TRACE(testing::Message() << where.out << where.in);
    between_two(gpu(), [&](Player& p) {
      Ends ends(p, where);
      ASSERT_EQ(ends.on_gpu(), p.me == 0 ? where.out : where.in);
      ends.carry(0, 200);
      if (ends.slots == nullptr) return;
      EXPECT_TRUE(ends.slots->is_registered()) << "the descriptor stays open";
      EXPECT_EQ(ends.slots->flushes, 0);
    });
  }
}

// Without a flush the receiver would find the last contents of its slots.
TEST_F(RdmaOfGpus, WhatArrivesIsFlushedBeforeItIsPublished) {
  between_two(gpu(true), [&](Player& p) {
    Ends ends(p, {.late = true});
    ends.carry(0, 200);
    if (p.me == 0) {
      EXPECT_EQ(ends.slots->flushes, 0) << "what is read needs none";
    } else {
      EXPECT_THAT(ends.slots->flushes, AllOf(testing::Gt(0), testing::Le(200)));
    }
  });
}

TEST_F(RdmaOfGpus, AFlushThatFailsIsTheFailureOfTheTransport) {
  between_two(gpu(true), [&](Player& p) {
    Ends ends(p, {.late = true});
    if (p.me == 1) ends.slots->failure = error(Code::CudaError, "the context is gone");
    if (p.me == 0) {
      ASSERT_TRUE(ends.send(100, 1));
    }
    EXPECT_THAT(p.failure_within(kPatienceMs).message(),
                HasSubstr(p.me == 1 ? "the context is gone" : "has failed; see its own output"));
  });
}

// What was on a rail that fails leaves once more from the GPU's memory, through the other device.
TEST_F(RdmaOfGpus, GoOnOverTheOtherDeviceWhenOneFallsSilent) {
  for (const bool late : {false, true}) {
    between_two(gpu(late), [&](Player& p) {
      Ends ends(p, {.late = late});
      ends.carry(0, 300, [&](uint64_t message) {
        if (message == 60) fake_.set_port(0, 1, false, false);
      });
      ASSERT_TRUE(ends.on_gpu());
      p.barrier();
      if (p.me == 0) fake_.set_port(0, 1, true, false);
    });
  }
}

TEST_F(RdmaOfGpus, GoOnOverADeviceThatWasDownWhenTheyWereRegistered) {
  fake_.set_port(0, 1, true, true);
  between_two(gpu(), [&](Player& p) {
    if (p.me == 0) fake_.set_port(0, 1, false, true);
    p.barrier();
    Ends ends(p, {});
    ends.carry(0, 50);
    p.barrier();
    if (p.me == 0) fake_.set_port(0, 1, true, true);
    p.barrier();
    ends.carry(50, 1000);
    p.barrier();
    if (p.me == 0) fake_.set_port(1, 1, false, true);
    p.barrier();
    ends.carry(1050, 50);
  });
}

TEST_F(RdmaOfGpus, AreReachedByEachDeviceInItsOwnWay) {
  fake_.gpu_memory(0, true, false);
  fake_.gpu_memory(1, false, true);
  between_two(gpu(), [&](Player& p) {
    Ends ends(p, {});
    ASSERT_TRUE(ends.on_gpu());
    ends.carry(0, 100);
  });
}

TEST_F(RdmaOfGpus, AreStagedWhereOneDeviceHasNoWay) {
  fake_.gpu_memory(1, false, false);
  between_two(gpu(), [&](Player& p) {
    const Flow flow = p.me == 0 ? Flow::Out : Flow::In;
    EXPECT_GT(p.transport->wants_gpu_slots(1 - p.me, flow), 0u);
    Ends ends(p, {});
    EXPECT_FALSE(ends.on_gpu());
    EXPECT_TRUE(ends.slots->is_registered()) << "the descriptor stays open";
    EXPECT_EQ(ends.slots.use_count(), 1) << "the memory is kept for nothing";
    EXPECT_EQ(p.transport->wants_gpu_slots(1 - p.me, flow), 0u) << "it would be asked for again, and refused";
    ends.carry(0, 100);
  });
}

TEST_F(RdmaOfGpus, StayWhereTheOptionsHaveThem) {
  RdmaGpuOptions only_in = gpu();
  only_in.not_out = "reads are slow";
  between_two(only_in, [&](Player& p) {
    Ends ends(p, {});
    EXPECT_EQ(ends.on_gpu(), p.me == 1);
    ends.carry(0, 50);
  });
  between_two({}, [&](Player& p) { EXPECT_EQ(p.transport->wants_gpu_slots(1 - p.me, Flow::In), 0u); });
}

// --- one device ---

TEST_F(RdmaOfGpus, WaysAreTriedInTurnAndTheReasonsKept) {
  RdmaSettings settings = rdma_settings();
  settings.devices = "fake0";
  auto devices = open_rdma_devices(settings);
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  const RdmaNic& nic = *(*devices)->nics().front();
  constexpr RdmaNic::Access kRead = RdmaNic::Access::Read;
  TestSlots slots(1 << 20, false);

  EXPECT_EQ(RdmaGpu(gpu()).attach(nic, slots, kRead)->how, "fake0 by DMA-buf");

  fake_.gpu_memory(0, false, true);
  RdmaGpu second(gpu());
  EXPECT_THAT(second.attach(nic, slots, kRead)->how,
              AllOf(HasSubstr("fake0 by nvidia-peermem (no DMA-buf: "), HasSubstr("ibv_reg_dmabuf_mr"),
                    HasSubstr("Operation not supported"), HasSubstr("Linux 5.12")));
  fake_.gpu_memory(0, true, true);
  EXPECT_THAT(second.attach(nic, slots, kRead)->how, HasSubstr("nvidia-peermem")) << "a refusal is asked for again";

  fake_.gpu_memory(0, false, false);
  RdmaGpu third(gpu());
  const auto refused = third.attach(nic, slots, kRead);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.status().message(), AllOf(HasSubstr("fake0 does not reach"), HasSubstr("no DMA-buf: "),
                                                HasSubstr("no nvidia-peermem: "), HasSubstr("Bad address")));
  EXPECT_FALSE(third.wanted(Flow::In));
  EXPECT_EQ(third.why_staged(Flow::In), refused.status().message());

  fake_.gpu_memory(0, true, true);
  RdmaGpuOptions without = gpu();
  without.no_dma_buf = "the setting";
  EXPECT_THAT(RdmaGpu(without).attach(nic, slots, kRead)->how,
              HasSubstr("by nvidia-peermem (no DMA-buf: the setting)"));
  slots.refuse_descriptor();
  EXPECT_THAT(RdmaGpu(gpu()).attach(nic, slots, kRead)->how, HasSubstr("no words for it"));
}

TEST_F(RdmaOfGpus, DevicesThatAreNotKeptAreClosed) {
  const int before = fake_.live_objects();
  auto devices = open_rdma_devices(rdma_settings());
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  ASSERT_EQ((*devices)->nics().size(), 2u);
  const int both = fake_.live_objects() - before;
  keep_rdma_devices(**devices, {"fake1"});
  ASSERT_EQ((*devices)->ports().size(), 1u);
  EXPECT_EQ((*devices)->ports()[0].device, "fake1");
  EXPECT_EQ((*devices)->nic_of(0).name(), "fake1");
  EXPECT_EQ(fake_.live_objects() - before, both / 2);
}

}  // namespace
}  // namespace tutti::test
