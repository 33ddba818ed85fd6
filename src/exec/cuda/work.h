// SPDX-License-Identifier: Apache-2.0
// What a kernel launch gets: plain structures, made by the host and read by thread blocks.
//
// Kernels: one for each protocol, tutti_<proto> (kernel_name of loaded_kernels.h); each takes one CudaLaunch by value
// and nothing else. Type and operator are those of each work, so that calls of any kinds can share a launch.
//
// Averages and pre-multiplied sums are sums with `post` or `pre`. Grid: one block for each CudaBlock of
// each work, works in order of first_block. Blocks of kLeastThreads .. kMostThreads threads, a multiple of a warp.
// Dynamic shared memory: shared_bytes() of the largest most_from and most_to in the launch.
//
// Who writes what, and for how long it stays:
//
//   structure        memory                           written by         may be written or freed again
//   CudaLaunch       kernel parameter                 host, per launch   at once (a captured graph has its own copy)
//   CudaWork         in the launch, or device or      host, per call     when the launch has ended; for a captured
//                    pinned host memory (`works`)                        graph: when the graph and its instances are
//                    gone
//   CudaBlock,       device memory                    host, per plan     when no launch of the plan, and no graph that
//   Step, peers                                                          captured one, is left
//   tables of Table  device memory (CollLayout)       host, per call     as CudaWork
//   CudaSendEnd,     device memory of this rank's     host once; kernels when the communicator ends. The host does not
//   CudaReceiveEnd   GPU                              ever after         look at or write them meanwhile
//   Cursor           device memory                    host once (zero),  as the ends. After an abort the host may zero
//                                                     kernels            it when the kernel has ended
//   CudaControl      pinned host memory               host               any time; kernels poll it
//   reports          pinned host memory, a word for   kernels            host zeroes them before the launch
//                    each block of the rank
//
// Replay. Positions of connections live in the ends and grow with every replay, so a captured launch is good for any
// number of replays as long as all ranks replay alike. Everything else in a launch is the same each time.
//
// Order. The blocks that use an end (the same rank and channel) never overlap: launches of one communicator are ordered
// by its streams. All blocks of all ranks of a launch must be resident at once, because they wait for each other,
// unless `moves` is set: then no block ever waits.
//
// Stepped (moves > 0): each block makes at most so many moves (calls of advance(), empty slices included) and keeps its
// place in `cursor`; the first launch of a call (`begins`) starts at the beginning, and what has ended stays so. The
// host puts stream waits on tails and heads between launches such that nothing has to wait (stepped.h); a block that
// finds itself blocked has reported Ended::Blocked. Simple and Remote only: lines are waited for one by one.
//
// Alignment: slots 128 bytes (Simple slots 64 will do), everything else as its type; user buffers as their elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "algo/element.h"
#include "algo/layout.h"
#include "algo/step.h"
#include "base/host_device.h"
#include "exec/run_schedule.h"
#include "proto/lines.h"
#include "proto/slots.h"

namespace tutti::cuda {

// How slices are handed over. Remote: Open, Enter, Remote, Leave and Close steps over Simple connections.
enum class KernelProto : uint8_t { Simple, LL, LL128, Remote };
inline constexpr int kKernelProtos = 4;
inline constexpr const char* kKernelProtoNames[kKernelProtos] = {"simple", "ll", "ll128", "remote"};

inline constexpr int kWarpThreads = 32, kLeastThreads = 32, kMostThreads = 512;

// One end of a connection (or of a fan-out). `whole_lines`: ll128_holds() for where the slots are; without it LL128
// ends with Ended::Refused. Lines the end has none of have slot_count 0.
struct CudaSendEnd {
  SimpleSender simple;
  LineSender ll, ll128;
  bool whole_lines = false;
};
struct CudaReceiveEnd {
  SimpleReceiver simple;
  LineReceiver ll, ll128;
  bool whole_lines = false;
};

// What one block carries: one part of one channel of a plan on one rank.
struct CudaBlock {
  Tiling tiling;
  SlotCut cut;                            // Simple
  const Step* steps = nullptr;            // `list` of their peers points to device memory (StepTable)
  int step_count = 0;                     // 0: nothing to do on this rank
  int most_from = 0, most_to = 0;         // peers of the steps at most (StepTable)
  CudaSendEnd* send = nullptr;            // by rank; those that no step names are empty
  CudaReceiveEnd* receive = nullptr;      // by rank
  CudaSendEnd* fan_send = nullptr;        // fan-out; null: steps that ask for it use the pairs
  CudaReceiveEnd* fan_receive = nullptr;  // by rank
  Cursor* cursor = nullptr;               // stepped launches only
  bool needs_windows = false;             // Remote: the catalog row has kWindows,
  bool needs_out_of_place = false;        // kOutOfPlace
};

// Remote: where the windows of all ranks are in this rank's address space.
struct CudaWindows {
  const uint64_t* bases = nullptr;  // device memory: [window * n + rank], 0: not mapped here; window 0 is none
  uint32_t count = 0;               // windows, window 0 included
  bool same_space = false;          // addresses outside windows are valid on every rank (one process, peer access)
};

// Written by the host only, one per communicator, in pinned memory.
struct alignas(kCacheLine) CudaControl {
  uint64_t end = 0;  // not 0: kernels end, with Ended::Stopped
  uint64_t ask = 0;  // whenever it changes, blocks that wait for long report Ended::Waiting and go on
};

// Why a block ended early, or what it is waiting for: one word, written with one store.
enum class Ended : uint8_t {
  No,        // fine so far (the host zeroes reports)
  Waiting,   // goes on; an answer to `ask`
  Stopped,   // `end` was set while it waited
  Blocked,   // stepped: has to be launched again
  Mismatch,  // the peer's slot belongs to another call
  // Remote: the buffers of some rank cannot be used as the schedule needs, so that nothing was moved; LL128: lines may
  // come in pieces
  Refused,
};
enum class Side : uint8_t { Receive, Send };  // waits for data (or an opening), for a free slot (or the peer to leave)
struct Report {
  Ended ended = Ended::No;
  Side side = Side::Receive;
  int peer = -1;  // -1: all readers of a fan-out
  uint32_t step = 0;
  TUTTI_HD constexpr uint64_t word() const {
    return static_cast<uint64_t>(ended) | static_cast<uint64_t>(side) << 6 |
           static_cast<uint64_t>((peer + 1) & 0xffffff) << 8 | static_cast<uint64_t>(step) << 32;
  }
  TUTTI_HD static constexpr Report of(uint64_t word) {
    return {static_cast<Ended>(word & 0x3f), static_cast<Side>(word >> 6 & 3),
            static_cast<int>(word >> 8 & 0xffffff) - 1, static_cast<uint32_t>(word >> 32)};
  }
};

// One rank's call.
struct CudaWork {
  uint32_t first_block = 0, block_count = 0;  // of the grid
  const CudaBlock* blocks = nullptr;
  const std::byte* input = nullptr;
  std::byte* output = nullptr;
  std::byte* scratch = nullptr;  // device memory; Plan::scratch_bytes
  CollLayout layout;             // bytes; tables in device memory
  int me = 0, n = 1;
  uint32_t identity = 0;            // & kIdentityMask
  DataType type = DataType::Uint8;  // of what is combined; what is only copied is bytes, whatever this says
  ReduceOp op = ReduceOp::Max;
  Scale pre, post;               // None, or of the call: Multiply my input, Divide the last reduction
  const void* pre_at = nullptr;  // instead of `pre`: the factor, an element in memory that the GPU can read
  Opening opening;               // Remote: what peers are told of my buffers
  CudaWindows windows;           // Remote
  const CudaControl* control = nullptr;
  uint64_t* reports = nullptr;  // one word for each of my blocks
  // Not null: a word that the launch before has reported; nothing is to be done unless it says Refused.
  const uint64_t* after_refusal = nullptr;
};

inline constexpr int kFewWorks = 8;  // in the parameter itself, which must stay below 4 KiB

struct CudaLaunch {
  const CudaWork* works = nullptr;  // null: `few`
  uint32_t work_count = 0;
  uint32_t moves = 0;   // 0: run to the end
  uint32_t begins = 0;  // stepped: 1 for the first launch of a call
  CudaWork few[kFewWorks];
};
static_assert(sizeof(CudaLaunch) <= 4096 && std::is_trivially_copyable_v<CudaLaunch>);

// The slice on the wire: of the source block where there is one, else of the block it is kept in. Packed: counted in
// the row of the step's blocks.
TUTTI_HD constexpr Piece piece_on_wire(const CollLayout& layout, const Tiling& tiling, const Step& step,
                                       const Cursor& cursor) {
  if (step.packed()) return layout.output.packed_slice(tiling, step, cursor.slice);
  if (step.src == Buffer::Input)
    return layout.input.piece(tiling, step.src_block, step.blocks, cursor.round, cursor.slice);
  const int block = step.src != Buffer::None ? step.src_block : step.dst_block;
  return layout.output.piece(tiling, block, step.blocks, cursor.round, cursor.slice);
}

// Where the slice of one peer is, in shared memory of the block; `flag` is for lines.
struct Place {
  std::byte* at;
  uint64_t flag;
};
// Dynamic shared memory of a launch. A GPU gives kMostSharedBytes without being asked, which is enough for steps of
// 1500 peers each way.
inline constexpr uint32_t kMostSharedBytes = 48 << 10;
constexpr uint32_t shared_bytes(int most_from, int most_to) {
  return static_cast<uint32_t>(most_from + most_to) * static_cast<uint32_t>(sizeof(Place));
}

}  // namespace tutti::cuda
