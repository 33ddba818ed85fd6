// SPDX-License-Identifier: Apache-2.0
// See buffers.h.
#include "perf/buffers.h"

#include <cstdlib>
#include <cstring>

namespace tutti::perf {
namespace {

constexpr size_t kPage = 4096;

Outcome lacks(const Library& library, const char* what) {
  return Outcome::failure("--library " + library.path() + " has no " + what);
}

}  // namespace

Buffer::~Buffer() { release(); }

Outcome Buffer::allocate(const Library& library, size_t bytes, Registration registration, tuttiComm_t comm,
                         std::string* refused) {
  library_ = &library;
  comm_ = comm;
  bytes_ = (bytes + kPage - 1) / kPage * kPage;
  if (registration != Registration::None) {
    void* memory = nullptr;
    const Outcome outcome = library.MemAlloc == nullptr || library.MemFree == nullptr
                                ? lacks(library, "memory to register")
                                : library.checked(library.MemAlloc(&memory, bytes_), "MemAlloc", comm);
    from_library_ = outcome.ok();
    data_ = static_cast<std::byte*>(memory);
    if (!outcome.ok()) *refused = outcome.message();
  }
  if (!from_library_) data_ = static_cast<std::byte*>(std::aligned_alloc(kPage, bytes_));
  if (data_ == nullptr) return Outcome::failure("no memory for a buffer of " + std::to_string(bytes_) + " bytes");
  std::memset(data_, 0, bytes_);

  Outcome registered;
  if (registration == Registration::Local) {
    registered = library.CommRegister == nullptr || library.CommDeregister == nullptr
                     ? lacks(library, "registration")
                     : library.checked(library.CommRegister(comm, data_, bytes_, &handle_), "CommRegister", comm);
  }
  if (registration == Registration::Window) {
    registered = library.CommWindowRegister == nullptr || library.CommWindowDeregister == nullptr
                     ? lacks(library, "windows")
                     : library.checked(library.CommWindowRegister(comm, data_, bytes_, &window_, 0),
                                       "CommWindowRegister", comm);
  }
  if (!registered.ok()) *refused = registered.message();
  return {};
}

void Buffer::release() {
  if (handle_ != nullptr) (void)library_->CommDeregister(comm_, handle_);
  if (window_ != nullptr) (void)library_->CommWindowDeregister(comm_, window_);
  if (data_ != nullptr && from_library_) (void)library_->MemFree(data_);
  if (data_ != nullptr && !from_library_) std::free(data_);
  handle_ = nullptr;
  window_ = nullptr;
  data_ = nullptr;
}

}  // namespace tutti::perf
