// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/cpu_kernels.h"

#include "exec/cuda/kernel.h"

namespace tutti::cuda {

CpuKernel cpu_kernel(KernelProto proto) {
  switch (proto) {
    case KernelProto::Simple:
      return run_block<KernelProto::Simple>;
    case KernelProto::LL:
      return run_block<KernelProto::LL>;
    case KernelProto::LL128:
      return run_block<KernelProto::LL128>;
    case KernelProto::Remote:
      return run_block<KernelProto::Remote>;
  }
  return nullptr;
}

void combine_on_cpu(const CpuSpan& given) {
  std::vector<Place> from, to;
  for (std::byte* at : given.from) from.push_back({at, 0});
  for (std::byte* at : given.to) to.push_back({at, 0});
  Span span;
  span.from = from.data();
  span.from_count = static_cast<int>(from.size());
  span.local = given.local;
  span.local_index = given.local_index;
  span.kept = given.kept;
  span.to = to.data();
  span.to_count = static_cast<int>(to.size());
  span.bytes = given.bytes;
  if (given.pre.kind != Scale::Kind::None) span.pre = &given.pre;
  if (given.post.kind != Scale::Kind::None) span.post = &given.post;
  with_element(given.type, given.op, [&]<class T, ReduceOp op>() { combine<T, op>(span); });
}

}  // namespace tutti::cuda
