// SPDX-License-Identifier: Apache-2.0
// See buffers.h.
#include "perf/buffers.h"

namespace tutti::perf {
namespace {

constexpr size_t kPage = 4096;

Outcome lacks(const Library& library, const char* what) {
  return Outcome::failure("--library " + library.path() + " has no " + what);
}

// NCCL's interface has no device in it: memory is of the one that is current.
Outcome allocate_to_register(const Library& library, Device& device, size_t bytes, void** memory) {
  if (library.is_own())
    return library.checked(library.MemAllocDevice(memory, bytes, device.ordinal()), "MemAllocDevice", nullptr);
  if (library.MemAlloc == nullptr || library.MemFree == nullptr) return lacks(library, "memory to register");
  const CurrentDevice current(device);
  return library.checked(library.MemAlloc(memory, bytes), "MemAlloc", nullptr);
}

}  // namespace

Buffer::~Buffer() { release(); }

Outcome Buffer::allocate(const Library& library, Device& device, size_t bytes, Registration registration,
                         std::string* refused) {
  library_ = &library;
  device_ = &device;
  bytes_ = (bytes + kPage - 1) / kPage * kPage;
  if (registration != Registration::None) {
    void* memory = nullptr;
    const Outcome outcome = allocate_to_register(library, device, bytes_, &memory);
    from_library_ = outcome.ok();
    data_ = static_cast<std::byte*>(memory);
    if (!outcome.ok()) *refused = outcome.message();
  }
  return from_library_ ? device.set(data_, std::byte{0}, bytes_) : device.allocate(bytes_, &data_);
}

void Buffer::enroll(Registration registration, tuttiComm_t comm, std::string* refused) {
  constexpr int kSymmetric = 1;  // NCCL_WIN_COLL_SYMMETRIC; ours always are
  const Library& library = *library_;
  comm_ = comm;
  Outcome registered;
  if (registration == Registration::Local) {
    registered = library.CommRegister == nullptr || library.CommDeregister == nullptr
                     ? lacks(library, "registration")
                     : library.checked(library.CommRegister(comm, data_, bytes_, &handle_), "CommRegister", comm);
  }
  if (registration == Registration::Window) {
    const int flags = library.is_own() ? 0 : kSymmetric;
    registered = library.CommWindowRegister == nullptr || library.CommWindowDeregister == nullptr
                     ? lacks(library, "windows")
                     : library.checked(library.CommWindowRegister(comm, data_, bytes_, &window_, flags),
                                       "CommWindowRegister", comm);
  }
  if (!registered.ok()) *refused = registered.message();
}

void Buffer::release() {
  if (handle_ != nullptr) (void)library_->CommDeregister(comm_, handle_);
  if (window_ != nullptr) (void)library_->CommWindowDeregister(comm_, window_);
  if (data_ != nullptr && from_library_) (void)library_->MemFree(data_);
  if (data_ != nullptr && !from_library_) device_->release(data_);
  handle_ = nullptr;
  window_ = nullptr;
  data_ = nullptr;
}

}  // namespace tutti::perf
