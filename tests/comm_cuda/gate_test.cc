// SPDX-License-Identifier: Apache-2.0
// When communicators that span GPUs wait for each other's launches.
#include "comm/cuda_gate.h"

#include <gmock/gmock.h>

#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(CudaGate, NobodyWaitsWhileAllFitAndEverybodyWhenTheyDoNot) {
  CudaGate gate;
  const int a = 0, b = 0, c = 0;  // owners
  const auto gpu = gpu::device();
  const auto of_a = *gpu::make_event(gpu), of_b = *gpu::make_event(gpu), of_c = *gpu::make_event(gpu);
  EXPECT_THAT(gate.ask(&a, 0, 6, 16), IsEmpty());
  gate.note(&a, 0, &of_a);
  EXPECT_THAT(gate.ask(&b, 0, 10, 16), IsEmpty()) << "16 in 16";
  gate.note(&b, 0, &of_b);
  EXPECT_THAT(gate.ask(&a, 0, 2, 16), IsEmpty()) << "a counts as its largest launch";
  EXPECT_THAT(gate.ask(&c, 0, 1, 16), UnorderedElementsAre(&of_a, &of_b));
  gate.note(&c, 0, &of_c);
  EXPECT_THAT(gate.ask(&b, 0, 1, 16), UnorderedElementsAre(&of_a, &of_c));
  EXPECT_THAT(gate.ask(&c, 1, 16, 16), IsEmpty()) << "another device";
  gate.leave(&b);
  EXPECT_THAT(gate.ask(&a, 0, 6, 16), IsEmpty());
  EXPECT_THAT(gate.ask(&a, 0, 6, 6), ElementsAre(&of_c)) << "a kernel of which fewer fit";
}

}  // namespace
}  // namespace tutti
