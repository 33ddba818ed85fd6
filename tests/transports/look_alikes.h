// SPDX-License-Identifier: Apache-2.0
// Tests over the look-alike RDMA devices of tests/fakes/fake_rdma.cc alone: what they change of the devices is put
// back, and what was asked of libibverbs has to be given back.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>

#include "tests/fakes/fake_rdma.h"
#include "tests/transports/rdma_stage.h"

namespace tutti::test {

inline const Setting kTwo{.kind = {"rdma_threads", Medium::Rdma, Ranks::Threads}, .ranks = 2};

class OnLookAlikes : public ::testing::Test {
 protected:
  void SetUp() override {
    if (on_real_devices()) GTEST_SKIP() << "needs the look-alike devices";
    fake_ = fakes::fake_rdma(FAKE_RDMA);
    objects_ = fake_.live_objects();
  }
  void TearDown() override {
    if (on_real_devices()) return;
    for (const int device : {0, 1, 2, 3}) {
      fake_.set_port(device, 1, true, true);
      fake_.gpu_memory(device, true, false);
    }
    fake_.refuse_memory(0);
    EXPECT_EQ(fake_.live_objects(), objects_) << "something of libibverbs was not given back";
  }

  // Two ranks over them, on threads of this process. `setup`: its part of each.
  static void between_two_of(const std::function<Result<RdmaSetup>(Player&)>& setup, const Body& body) {
    perform_bare(kTwo, [&](Player& p) {
      Result<RdmaSetup> met = setup(p);
      ASSERT_TRUE(met.ok()) << met.status().message();
      Result<std::unique_ptr<Transport>> made = make_rdma(std::move(*met));
      ASSERT_TRUE(made.ok()) << made.status().message();
      p.transport = std::move(*made);
      p.barrier();
      body(p);
      p.barrier();
    });
  }

  fakes::FakeRdma fake_{};

 private:
  int objects_ = 0;
};

}  // namespace tutti::test
