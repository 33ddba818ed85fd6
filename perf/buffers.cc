// SPDX-License-Identifier: Apache-2.0
// See buffers.h.
#include "perf/buffers.h"

#include <cstdlib>
#include <cstring>

#include "perf/calls.h"

namespace tutti::perf {
namespace {
constexpr size_t kPage = 4096;
}

Buffer::~Buffer() { release(); }

Outcome Buffer::allocate(size_t bytes, Registration registration, tuttiComm_t comm, std::string* refused) {
  comm_ = comm;
  bytes_ = (bytes + kPage - 1) / kPage * kPage;
  if (registration != Registration::None) {
    void* memory = nullptr;
    const Outcome outcome = checked(tuttiMemAlloc(&memory, bytes_), "tuttiMemAlloc", comm);
    from_library_ = outcome.ok();
    data_ = static_cast<std::byte*>(memory);
    if (!outcome.ok()) *refused = outcome.message();
  }
  if (!from_library_) data_ = static_cast<std::byte*>(std::aligned_alloc(kPage, bytes_));
  if (data_ == nullptr) return Outcome::failure("no memory for a buffer of " + std::to_string(bytes_) + " bytes");
  std::memset(data_, 0, bytes_);

  Outcome registered;
  if (registration == Registration::Local) {
    registered = checked(tuttiCommRegister(comm, data_, bytes_, &handle_), "tuttiCommRegister", comm);
  }
  if (registration == Registration::Window) {
    registered = checked(tuttiCommWindowRegister(comm, data_, bytes_, &window_, 0), "tuttiCommWindowRegister", comm);
  }
  if (!registered.ok()) *refused = registered.message();
  return {};
}

void Buffer::release() {
  if (handle_ != nullptr) (void)tuttiCommDeregister(comm_, handle_);
  if (window_ != nullptr) (void)tuttiCommWindowDeregister(comm_, window_);
  if (data_ != nullptr && from_library_) (void)tuttiMemFree(data_);
  if (data_ != nullptr && !from_library_) std::free(data_);
  handle_ = nullptr;
  window_ = nullptr;
  data_ = nullptr;
}

}  // namespace tutti::perf
