// SPDX-License-Identifier: Apache-2.0
// Reductions alone, one thread. bytes_per_second counts every byte read and written (sum of two: 3x the size), as the
// tables of memory bandwidth do. Names: type/op/target/bytes/sources/destinations/streamed.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "exec/cpu/reduce/reduce.h"
#include "exec/cpu/reduce/targets.h"

namespace tutti {
namespace {

// Numbers near one in every floating type: no overflow, no denormals.
void fill(char* to, size_t bytes, int seed) {
  for (size_t i = 0; i < bytes; ++i) to[i] = static_cast<char>(((i * 7 + seed) & 7) | 0x38);
}

void run(benchmark::State& state, DataType type, ReduceOp op, ReduceTarget target, size_t bytes, int sources,
         int destinations, bool streamed) {
  constexpr size_t kApart = 4096 + 256;  // different sets of the first-level cache
  std::vector<const void*> from;
  std::vector<void*> to;
  std::vector<char*> owned;
  for (int i = 0; i < sources + destinations; ++i) {
    char* memory = static_cast<char*>(std::aligned_alloc(4096, ((bytes + kApart * 16) / 4096 + 1) * 4096));
    owned.push_back(memory);
    char* at = memory + (i * kApart) % (kApart * 15) / 64 * 64;
    fill(at, bytes, i);
    if (i < sources) {
      from.push_back(at);
    } else {
      to.push_back(at);
    }
  }
  const ReduceFn function = reduce_function(type, op, target);
  for (auto _ : state) {
    function({.sources = from.data(),
              .source_count = sources,
              .destinations = to.data(),
              .destination_count = destinations,
              .streamed = streamed ? ~0u : 0,
              .count = bytes / element_size(type)});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes * (sources + destinations)));
  for (char* memory : owned) std::free(memory);
}

void add(DataType type, ReduceOp op, ReduceTarget target, size_t bytes, int sources, int destinations, bool streamed) {
  if (reduce_kernels(target) == nullptr) return;
  const std::string name = std::string(type_name(type)) + "/" + op_name(op) + "/" +
                           kReduceTargetNames[static_cast<int>(target)] + "/" + std::to_string(bytes) + "/" +
                           std::to_string(sources) + "/" + std::to_string(destinations) + (streamed ? "/nt" : "");
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    run(state, type, op, target, bytes, sources, destinations, streamed);
  });
}

void add_all() {
  for (int t = 0; t < kReduceTargets; ++t) {
    const auto target = static_cast<ReduceTarget>(t);
    for (int d = 0; d < kDataTypes; ++d) {
      for (int o = 0; o < kReduceOps; ++o) {
        for (size_t bytes : {8u, 64u, 4096u, 262144u, 16u << 20}) {
          add(static_cast<DataType>(d), static_cast<ReduceOp>(o), target, bytes, 2, 1, false);
        }
        add(static_cast<DataType>(d), static_cast<ReduceOp>(o), target, 4096, 8, 1, false);
      }
    }
    for (size_t bytes : {1u << 20, 16u << 20, 64u << 20}) {
      add(DataType::Float32, ReduceOp::Sum, target, bytes, 2, 1, false);
      add(DataType::Float32, ReduceOp::Sum, target, bytes, 2, 1, true);
      add(DataType::Float32, ReduceOp::Sum, target, bytes, 2, 2, false);
      add(DataType::Float32, ReduceOp::Sum, target, bytes, 2, 2, true);
      add(DataType::Bfloat16, ReduceOp::Sum, target, bytes, 2, 1, true);
    }
  }
}

}  // namespace
}  // namespace tutti

int main(int argc, char** argv) {
  tutti::add_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
