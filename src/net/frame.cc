// SPDX-License-Identifier: Apache-2.0
// See frame.h.
#include "net/frame.h"

#include <algorithm>

#include "net/socket.h"

namespace tutti {
namespace {

constexpr size_t kGrowth = 64 << 10;  // most memory taken ahead of the bytes that fill it

}  // namespace

Result<Poll> FrameReader::advance(int fd, std::string_view peer) {
  while (length_got_ < length_.size()) {
    TUTTI_ASSIGN_OR_RETURN(const size_t count, read_some(fd, std::span(length_).subspan(length_got_), peer));
    if (count == 0) return Poll::Pending;
    length_got_ += count;
    if (length_got_ < length_.size()) continue;
    expected_ = ByteReader(length_).number<uint32_t>();
    if (expected_ > most_) {
      return remote_error("{} announced a message of {} bytes, at most {} are allowed here", peer, expected_, most_);
    }
  }
  while (body_got_ < expected_) {
    const size_t room = std::min<size_t>(expected_, std::max(body_got_ + kGrowth, body_got_ * 2));
    if (body_.size() < room) body_.resize(room);
    TUTTI_ASSIGN_OR_RETURN(const size_t count, read_some(fd, std::span(body_).subspan(body_got_), peer));
    if (count == 0) return Poll::Pending;
    body_got_ += count;
  }
  return Poll::Done;
}

Frame make_frame(std::span<const std::byte> body) {
  ByteWriter writer;
  writer.sized(body);
  return std::make_shared<const Bytes>(writer.take());
}

Result<Poll> FrameWriter::advance(int fd, std::string_view peer) {
  while (sent_ < frame_->size()) {
    TUTTI_ASSIGN_OR_RETURN(const size_t count, write_some(fd, std::span(*frame_).subspan(sent_), peer));
    if (count == 0) return Poll::Pending;
    sent_ += count;
  }
  return Poll::Done;
}

}  // namespace tutti
