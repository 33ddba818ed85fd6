// SPDX-License-Identifier: Apache-2.0
// The fake CUDA driver: the kernels that it finds by name.
#include "exec/cuda/threads.h"
#include "tests/fakes/cpu_kernels.h"
#include "tests/fakes/fake_cuda_state.h"

namespace tutti::fakes {
namespace {

// More than a context reserves without being asked, so that whoever forgets to ask is found out.
constexpr int kLocalBytes = 2 * static_cast<int>(kDefaultStack);

using Words = void (*)(const FakeKernelWords&);
void add(const FakeKernelWords& words) { std::atomic_ref<uint64_t>(*words.word).fetch_add(words.value); }
void wait(const FakeKernelWords& words) {
  while (cuda::thread_index() == 0 && load_acquire(*words.word) < words.value) cuda::let_others_run();
}
void meet(const FakeKernelWords& words) {
  if (cuda::thread_index() != 0) return;
  std::atomic_ref<uint64_t>(*words.word).fetch_add(1);
  while (load_acquire(*words.word) < words.value) cuda::let_others_run();
}
Kernel of_words(Words body) {
  return {sizeof(FakeKernelWords), 0,
          [body](const void* parameter) { body(*static_cast<const FakeKernelWords*>(parameter)); }};
}

}  // namespace

const std::map<std::string, Kernel>& kernels() {
  static const std::map<std::string, Kernel>& all = *[] {
    auto* const made = new std::map<std::string, Kernel>{
        {"fake_add", of_words(add)}, {"fake_wait", of_words(wait)}, {"fake_meet", of_words(meet)}};
    for (int p = 0; p < cuda::kKernelProtos; ++p) {
      const auto body = cuda::cpu_kernel(static_cast<cuda::KernelProto>(p));
      (*made)[std::string("tutti_") + cuda::kKernelProtoNames[p]] = {
          sizeof(cuda::CudaLaunch), kLocalBytes,
          [body](const void* parameter) { body(*static_cast<const cuda::CudaLaunch*>(parameter)); }};
    }
    return made;
  }();
  return all;
}

}  // namespace tutti::fakes
