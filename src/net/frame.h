// SPDX-License-Identifier: Apache-2.0
// Frames: messages with a length in front (32 bits), over a connection whose handshake is done. Never block.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/poll.h"
#include "base/status.h"
#include "net/wire.h"

namespace tutti {

// Receives one frame. Memory grows with what arrives, never with what a length promises, and `most` bounds it.
class FrameReader {
 public:
  explicit FrameReader(uint32_t most) : most_(most) {}
  Result<Poll> advance(int fd, std::string_view peer);
  Bytes take() { return std::move(body_); }

 private:
  uint32_t most_;
  std::array<std::byte, 4> length_{};
  size_t length_got_ = 0;
  uint32_t expected_ = 0;
  size_t body_got_ = 0;
  Bytes body_;
};

// Length and body, once for all who get it.
using Frame = std::shared_ptr<const Bytes>;
Frame make_frame(std::span<const std::byte> body);

// Sends one frame.
class FrameWriter {
 public:
  explicit FrameWriter(Frame frame) : frame_(std::move(frame)) {}
  Result<Poll> advance(int fd, std::string_view peer);
  bool done() const { return sent_ == frame_->size(); }

 private:
  Frame frame_;
  size_t sent_ = 0;
};

}  // namespace tutti
