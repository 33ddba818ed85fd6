// SPDX-License-Identifier: Apache-2.0
// Runner: one rank's part in one case: buffers with guards, the call, the comparison with the reference.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cases.h"
#include "launcher.h"
#include "tutti/tutti.h"

namespace conformance {

// Of each rank, in worlds with windows; a buffer that does not fit in half of it lies elsewhere.
constexpr size_t kWindowBytes = 16 << 20;

// A buffer of elements between guards, starting `shift` elements behind a 64-byte boundary; in `place` if it is given
// and large enough.
class Guarded {
 public:
  void make(size_t elements, size_t element, int shift, unsigned char* place, size_t place_bytes);
  unsigned char* data() const { return begin_; }
  // With the guards.
  unsigned char* raw() const { return raw_; }
  size_t raw_bytes() const { return raw_bytes_; }
  size_t bytes() const { return bytes_; }
  // First guard byte that changed, relative to the buffer; "" when none did.
  std::string damage() const;

 private:
  std::vector<unsigned char> own_;
  unsigned char* raw_ = nullptr;
  size_t raw_bytes_ = 0;
  unsigned char* begin_ = nullptr;
  size_t bytes_ = 0;
};

class Runner {
 public:
  Runner(const World& world, int rank, tuttiComm_t comm, tuttiStream_t stream, launcher::Page& page,
         unsigned char* window, unsigned char* on_gpu = nullptr)
      : world_(world), rank_(rank), comm_(comm), stream_(stream), page_(page), window_(window), on_gpu_(on_gpu) {}

  // In this order, for each case. Each returns "" or what is wrong.
  std::string prepare(const Case& one);  // buffers, operator
  std::string issue();                   // the call
  std::string synchronize();             // the stream
  std::string check();                   // values, guards, inputs

 private:
  // Elements [offset, offset + count) of recv come out as a reduction from table index `index` on (source < 0), or as
  // what rank `source` holds from `index` on.
  struct Segment {
    size_t offset, count;
    int source;
    uint64_t index;
  };

  void lay_out();
  void fill();
  std::string compare(const Segment& segment) const;
  std::string compare_untouched() const;
  std::string issue_pairs(tuttiStream_t stream);
  std::string to_gpu();
  std::string from_gpu();
  // Where calls find what the host has at `at`.
  template <class Byte>
  Byte* passed(Byte* at) const {
    return on_gpu_ == nullptr || at == nullptr ? at : on_gpu_ + (at - window_);
  }
  std::string result(tuttiResult_t code, const char* call) const;

  // Counts and displacements of V calls, from the seed: every rank can compute those of every other.
  size_t block_count(int from, int to) const;
  std::vector<size_t> displacements(const std::vector<size_t>& counts, int owner, int side) const;

  const World world_;
  const int rank_;
  const tuttiComm_t comm_;
  const tuttiStream_t stream_;
  launcher::Page& page_;
  unsigned char* const window_;  // kWindowBytes, or null
  // Not null: memory of the GPU, of which `window_` is the host's copy: a window, and as much that lies in none.
  unsigned char* const on_gpu_;

  Case case_;
  int root_ = 0;
  size_t count_ = 0, element_ = 1;
  Guarded send_buffer_, recv_buffer_;
  const unsigned char* send_ = nullptr;
  unsigned char* recv_ = nullptr;
  size_t send_elements_ = 0, recv_elements_ = 0;
  bool aliased_ = false;              // send and recv lie in recv_buffer_
  bool rest_undefined_ = false;       // in place, and the call may overwrite the rest of the input
  size_t send_at_ = 0, recv_at_ = 0;  // elements into the common buffer, when aliased
  std::vector<Segment> segments_;
  std::vector<size_t> sendcounts_, sdispls_, recvcounts_, rdispls_;
  std::vector<unsigned char> send_copy_, before_;
  tuttiRedOp_t op_ = TUTTI_SUM;
  uint64_t barriers_ = 0;
};

}  // namespace conformance
