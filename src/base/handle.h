// SPDX-License-Identifier: Apache-2.0
// Owners for C objects: one owner each; member order is the teardown order.
#pragma once

#include <unistd.h>

#include <memory>
#include <utility>

#include "base/fork.h"

namespace tutti {

template <class T, auto Destroy>
struct HandleDeleter {
  void operator()(T* object) const { Destroy(object); }
};
template <class T, auto Destroy>
using Handle = std::unique_ptr<T, HandleDeleter<T, Destroy>>;

// A file descriptor; closed once, and in every child that is forked meanwhile.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) { note_descriptor(fd); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { close(); }

  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() {
    forget_descriptor(fd_);
    return std::exchange(fd_, -1);
  }
  void reset(int fd = -1) {
    close();
    fd_ = fd;
    note_descriptor(fd);
  }

 private:
  void close() {
    if (fd_ < 0) return;
    forget_descriptor(fd_);
    ::close(fd_);
  }

  int fd_ = -1;
};

}  // namespace tutti
