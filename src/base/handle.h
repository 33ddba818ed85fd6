// SPDX-License-Identifier: Apache-2.0
// Owners for C objects: one owner each; member order is the teardown order.
#pragma once

#include <unistd.h>

#include <memory>
#include <utility>

namespace tutti {

template <class T, auto Destroy>
struct HandleDeleter {
  void operator()(T* object) const { Destroy(object); }
};
template <class T, auto Destroy>
using Handle = std::unique_ptr<T, HandleDeleter<T, Destroy>>;

// A file descriptor; closed once.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace tutti
