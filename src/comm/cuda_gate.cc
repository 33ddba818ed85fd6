// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_gate.h"

#include <algorithm>

#include "base/fork.h"

namespace tutti {

CudaGate& CudaGate::of_process() {
  static CudaGate& only = *[] {
    auto* const made = new CudaGate;  // never destroyed: communicators may outlive static destruction
    guard_at_fork(made->mutex_);
    return made;
  }();
  return only;
}

std::vector<const gpu::OwnedEvent*> CudaGate::ask(const void* owner, int device, int blocks, int places) {
  House& house = houses_[device];
  house.places = house.places == 0 ? places : std::min(house.places, places);
  Tenant& mine = house.tenants[owner];
  mine.blocks = std::max(mine.blocks, blocks);
  int all = 0;
  for (const auto& [who, tenant] : house.tenants) all += tenant.blocks;
  std::vector<const gpu::OwnedEvent*> before;
  if (all <= house.places) return before;
  for (const auto& [who, tenant] : house.tenants) {
    if (who != owner && tenant.done != nullptr) before.push_back(tenant.done);
  }
  return before;
}

void CudaGate::note(const void* owner, int device, const gpu::OwnedEvent* done) {
  houses_[device].tenants[owner].done = done;
}

void CudaGate::leave(const void* owner) {
  const std::lock_guard lock(mutex_);
  for (auto& [device, house] : houses_) house.tenants.erase(owner);
}

}  // namespace tutti
