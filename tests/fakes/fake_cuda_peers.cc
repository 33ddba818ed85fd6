// SPDX-License-Identifier: Apache-2.0
// The fake CUDA driver: which devices reach each other's memory, and what becomes of kernels that do not keep to it.
//
// A kernel's loads and stores are the processor's own, so the processor has to find out: memory of each device carries
// a protection key, and while a thread runs a kernel its rights are those of the kernel's device. Where the processor
// has no such keys, or there are more devices than keys, nothing is found out.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/fakes/fake_cuda_state.h"

using namespace tutti::gpu;
using namespace tutti::fakes;

namespace {

const char* text_of(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? "1" : text;
}

// Whether "0-1,2>3" names it: both directions, or the one.
bool lists(const std::string& list, int from, int to) {
  const char* at = list.c_str();
  int a = 0, b = 0, length = 0;
  char between = 0;
  while (std::sscanf(at, "%d%c%d%n", &a, &between, &b, &length) == 3) {
    if ((a == from && b == to) || (between == '-' && a == to && b == from)) return true;
    at += length;
    if (*at == ',') ++at;
  }
  return false;
}
bool holds(const std::string& pairs, int from, int to) {
  if (pairs == "0" || pairs == "1") return pairs == "1";
  return pairs[0] == '^' ? !lists(pairs.substr(1), from, to) : lists(pairs, from, to);
}

constexpr size_t kMostDevices = 15;

// By device; empty: nothing is guarded.
const std::vector<int>& keys() {
  static const std::vector<int>& all = *[] {
    auto* const made = new std::vector<int>;
    const size_t count = driver().contexts.size();
    if (std::strcmp(text_of("FAKE_CUDA_PEERS"), "1") == 0 || count > kMostDevices) return made;
    while (made->size() < count) {
      const int key = ::pkey_alloc(0, 0);
      if (key < 0) {
        for (const int one : *made) ::pkey_free(one);
        made->clear();
        return made;
      }
      made->push_back(key);
    }
    return made;
  }();
  return all;
}

// What such a kernel meets: on a GPU an illegal address, here the end of the process.
thread_local int t_device = -1;
void tell(int, siginfo_t* info, void*) {
  if (info->si_code == SEGV_PKUERR) {
    char text[128];
    const int length = std::snprintf(text, sizeof text,
                                     "fake CUDA: a kernel on device %d touched memory that it cannot reach (key %u)\n",
                                     t_device, info->si_pkey);
    (void)!::write(STDERR_FILENO, text, static_cast<size_t>(length));
  }
  ::signal(SIGSEGV, SIG_DFL);
}

}  // namespace

namespace tutti::fakes {

bool reaches(int from, int to) { return from == to || holds(text_of("FAKE_CUDA_PEERS"), from, to); }
bool by_nvlink(int from, int to) { return reaches(from, to) && holds(text_of("FAKE_CUDA_NVLINK"), from, to); }

void guard_memory(uint64_t at, size_t bytes, int device) {
  if (keys().empty()) return;
  static const bool tells = [] {
    struct sigaction action = {};
    action.sa_sigaction = tell;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGSEGV, &action, nullptr) == 0;
  }();
  (void)tells;
  (void)::pkey_mprotect(reinterpret_cast<void*>(at), bytes, PROT_READ | PROT_WRITE,
                        keys()[static_cast<size_t>(device)]);
}

// Threads begin with the rights of the one that starts them; those that are older than a key have none.
void may_touch_all() {
  thread_local bool done = false;
  if (done) return;
  done = true;
  for (const int key : keys()) ::pkey_set(key, 0);
}

KernelRights::KernelRights(const CUctx_st& context) {
  may_touch_all();
  t_device = context.device;
  const std::lock_guard lock(driver().mutex);
  for (size_t device = 0; device < keys().size(); ++device) {
    const auto number = static_cast<int>(device);
    if (number != context.device && context.peers.count(number) == 0) ::pkey_set(keys()[device], PKEY_DISABLE_ACCESS);
  }
}
KernelRights::~KernelRights() {
  for (const int key : keys()) ::pkey_set(key, 0);
}

}  // namespace tutti::fakes

int cuDeviceCanAccessPeer(int* can, CudaDevice device, CudaDevice peer) {
  return *can = reaches(device, peer), kCudaSuccess;
}
int cuDeviceGetP2PAttribute(int* value, int which, CudaDevice device, CudaDevice peer) {
  return *value = which == kCudaPeerAccess    ? reaches(device, peer)
                  : which == kCudaPeerAtomics ? by_nvlink(device, peer)
                                              : 0,
         kCudaSuccess;
}
int cuCtxEnablePeerAccess(CudaContext peer, unsigned) {
  ENTER();
  if (!reaches(here()->device, peer->device)) return kCudaPeerUnsupported;
  return here()->peers.insert(peer->device).second ? +kCudaSuccess : +kCudaPeerAlreadyEnabled;
}
