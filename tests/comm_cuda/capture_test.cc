// SPDX-License-Identifier: Apache-2.0
// Calls on streams that are captured into graphs, and the graphs' replays.
#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

using ::testing::HasSubstr;

class CudaCapture : public testing::Test {
 protected:
  // Captures what `body` does on the first rank's stream.
  gpu::CudaGraphExec capture(Ranks& ranks, const std::function<void()>& body) {
    const gpu::CudaRun& cuda = ranks.gpus[0]->cuda();
    const gpu::CudaScope scope(*ranks.gpus[0]);
    EXPECT_EQ(cuda.capture_begin(ranks.streams[0].handle(), gpu::kCudaCaptureGlobal), 0);
    body();
    gpu::CudaGraph graph = nullptr;
    EXPECT_EQ(cuda.capture_end(ranks.streams[0].handle(), &graph), 0);
    gpu::CudaGraphExec exec = nullptr;
    EXPECT_EQ(cuda.graph_instantiate(&exec, graph, 0), 0);
    EXPECT_EQ(cuda.graph_destroy(graph), 0);
    return exec;
  }
  void replay(Ranks& ranks, gpu::CudaGraphExec exec) {
    const gpu::CudaScope scope(*ranks.gpus[0]);
    EXPECT_EQ(ranks.gpus[0]->cuda().graph_launch(exec, ranks.streams[0].handle()), 0);
    EXPECT_TRUE(ranks.streams[0].synchronize().ok());
  }
  void drop(Ranks& ranks, gpu::CudaGraphExec exec) {
    const gpu::CudaScope scope(*ranks.gpus[0]);
    EXPECT_EQ(ranks.gpus[0]->cuda().graph_exec_destroy(exec), 0);
  }
  // The other ranks' streams join the first one's capture.
  void join(Ranks& ranks, const gpu::OwnedEvent& fork) {
    ASSERT_TRUE(ranks.streams[0].record(fork).ok());
    for (size_t r = 1; r < ranks.streams.size(); ++r) ASSERT_TRUE(ranks.streams[r].wait(fork).ok());
  }
  void leave(Ranks& ranks, std::vector<gpu::OwnedEvent>& ends) {
    for (size_t r = 1; r < ranks.streams.size(); ++r) {
      ASSERT_TRUE(ranks.streams[r].record(ends[r]).ok());
      ASSERT_TRUE(ranks.streams[0].wait(ends[r]).ok());
    }
  }
};

TEST_F(CudaCapture, AGroupOfAllRanksIsCapturedAndReplayedAlsoAsTheFirstCall) {
  {
    Ranks ranks({0, 0, 0});
    const gpu::CudaGraphExec exec = capture(ranks, [&] {
      ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
      for (int r = 0; r < 3; ++r) EXPECT_EQ(ranks.all_reduce(r, ranks.stream(0)), TUTTI_SUCCESS);
      ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    });
    for (int i = 1; i <= 4; ++i) {
      ranks.fill(static_cast<float>(i));
      replay(ranks, exec);
      ranks.expect_sums(static_cast<float>(i));
    }
    // Beside it, calls that are not captured.
    ranks.fill(9);
    ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    ranks.synchronize();
    ranks.expect_sums(9);
    ranks.fill(5);
    replay(ranks, exec);
    ranks.expect_sums(5);
    drop(ranks, exec);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST_F(CudaCapture, StreamsThatJoinedTheCaptureTakePart) {
  Ranks ranks({0, 1});
  const auto fork = *gpu::make_event(ranks.gpus[0]);
  std::vector<gpu::OwnedEvent> ends(2);
  ends[1] = *gpu::make_event(ranks.gpus[1]);
  const gpu::CudaGraphExec exec = capture(ranks, [&] {
    join(ranks, fork);
    EXPECT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    leave(ranks, ends);
  });
  for (int i = 1; i <= 2; ++i) {
    ranks.fill(static_cast<float>(i));
    replay(ranks, exec);
    ranks.expect_sums(static_cast<float>(i));
  }
  drop(ranks, exec);
}

TEST_F(CudaCapture, WhatCannotBeCapturedSaysWhy) {
  Ranks ranks({0, 0});
  const auto other = *gpu::make_stream(ranks.gpus[0]);
  drop(ranks, capture(ranks, [&] {
         EXPECT_EQ(ranks.all_reduce(0, ranks.stream(0)), TUTTI_INVALID_USAGE);
         EXPECT_THAT(last_text(), HasSubstr("tuttiGroupStart"));
         EXPECT_EQ(ranks.all_reduce_together(), TUTTI_INVALID_USAGE) << "one stream is captured, the other is not";
         EXPECT_THAT(last_text(), HasSubstr("cudaStreamWaitEvent"));
       }));
  ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << "the communicator is as it was: " << last_text();
  ranks.synchronize();
  ranks.expect_sums(1);
}

}  // namespace
}  // namespace tutti
