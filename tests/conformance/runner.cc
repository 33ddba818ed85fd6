// SPDX-License-Identifier: Apache-2.0
#include "runner.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>

#include "gpus.h"
#include "reference.h"

namespace conformance {
namespace {

constexpr size_t kGuardBytes = 256;
constexpr unsigned char kGuard = 0xA5, kUntouched = 0xEE;

// Calls body(T()) with the unsigned type of this width: the loops over elements are compiled once for each.
template <class Body>
auto with_width(size_t element, Body&& body) {
  switch (element) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

// Calls body(i, column) for elements [0, count) of which the first has table index `index`; stops when it returns
// false.
template <class Body>
void for_columns(size_t index, size_t count, Body&& body) {
  for (size_t i = 0; i < count;) {
    size_t k = column(index + i);
    const size_t period_left = kPeriod - (index + i) % kPeriod, row_left = kPeriod - k;
    const size_t end = i + std::min({count - i, period_left, row_left});
    for (; i < end; ++i, ++k)
      if (!body(i, k)) return;
  }
}

}  // namespace

void Guarded::make(size_t elements, size_t element, int shift, unsigned char* place, size_t place_bytes) {
  bytes_ = elements * element;
  raw_bytes_ = bytes_ + 2 * kGuardBytes + 128;
  own_.clear();
  raw_ = place;
  if (place == nullptr || raw_bytes_ > place_bytes) {
    own_.resize(raw_bytes_);
    raw_ = own_.data();
  }
  std::memset(raw_, kGuard, raw_bytes_);
  auto address = reinterpret_cast<uintptr_t>(raw_) + kGuardBytes;
  address = (address + 63) / 64 * 64 + static_cast<size_t>(shift) * element;
  begin_ = raw_ + (address - reinterpret_cast<uintptr_t>(raw_));
  std::memset(begin_, kUntouched, bytes_);
}

std::string Guarded::damage() const {
  const unsigned char* const end = raw_ + raw_bytes_;
  for (const unsigned char* at = raw_; at != end; ++at) {
    if (at == begin_) {
      at += bytes_;
      if (at == end) break;
    }
    if (*at != kGuard)
      return "guard byte " + std::to_string(at - begin_) + " of " + std::to_string(bytes_) + " was overwritten";
  }
  return "";
}

std::string Runner::result(tuttiResult_t code, const char* call) const {
  if (code == TUTTI_SUCCESS) return "";
  return std::string(call) + " returned " + std::to_string(code) + " (" + tuttiGetErrorString(code) +
         "): " + tuttiGetLastError(nullptr);
}

size_t Runner::block_count(int from, int to) const {
  const uint64_t dice = copied(case_.seed ^ 0x5DEECE66Du, from, static_cast<uint64_t>(to)) >> 8;
  if (count_ == 0 || dice % 5 == 0) return 0;
  return count_ + dice % 7 - std::min<size_t>(count_ / 2, 3);
}

// Blocks with gaps of 0 to 3 elements, on odd owners in falling order.
std::vector<size_t> Runner::displacements(const std::vector<size_t>& counts, int owner, int side) const {
  std::vector<size_t> displs(counts.size());
  size_t end = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const size_t block = owner % 2 == 1 ? counts.size() - 1 - i : i;
    end += copied(case_.seed + static_cast<uint64_t>(side), owner, block) % 4;
    displs[block] = end;
    end += counts[block];
  }
  return displs;
}

// What the call reads and writes.
void Runner::lay_out() {
  const auto n = static_cast<size_t>(world_.n), me = static_cast<size_t>(rank_);
  const bool in_place = case_.in_place != 0, is_root = rank_ == root_;
  segments_.clear();
  send_elements_ = recv_elements_ = send_at_ = recv_at_ = 0;
  aliased_ = in_place, rest_undefined_ = false;
  sendcounts_.clear(), recvcounts_.clear(), sdispls_.clear(), rdispls_.clear();
  const auto total = [](const std::vector<size_t>& v) { return std::accumulate(v.begin(), v.end(), size_t{0}); };
  const auto extent = [](const std::vector<size_t>& counts, const std::vector<size_t>& displs) {
    size_t end = 0;
    for (size_t r = 0; r < counts.size(); ++r) end = std::max(end, displs[r] + counts[r]);
    return end;
  };

  switch (static_cast<Coll>(case_.coll)) {
    case kAllReduce:
      send_elements_ = recv_elements_ = count_;
      segments_.push_back({0, count_, -1, 0});
      break;
    case kReduce:
      send_elements_ = recv_elements_ = count_;
      aliased_ = in_place && is_root;
      if (is_root) segments_.push_back({0, count_, -1, 0});
      break;
    case kBroadcast:
      send_elements_ = recv_elements_ = count_;
      aliased_ = in_place && is_root;
      segments_.push_back({0, count_, root_, 0});
      break;
    case kAllGather:
      send_elements_ = count_, recv_elements_ = n * count_, send_at_ = me * count_;
      for (size_t r = 0; r < n; ++r) segments_.push_back({r * count_, count_, static_cast<int>(r), 0});
      break;
    case kAllGatherV:
      for (size_t r = 0; r < n; ++r) recvcounts_.push_back(block_count(static_cast<int>(r), 0));
      rdispls_ = displacements(recvcounts_, rank_, 1);
      send_elements_ = recvcounts_[me], recv_elements_ = extent(recvcounts_, rdispls_), send_at_ = rdispls_[me];
      for (size_t r = 0; r < n; ++r) segments_.push_back({rdispls_[r], recvcounts_[r], static_cast<int>(r), 0});
      break;
    case kReduceScatter:
      send_elements_ = n * count_, recv_elements_ = count_, recv_at_ = me * count_;
      rest_undefined_ = aliased_;
      segments_.push_back({0, count_, -1, me * count_});
      break;
    case kReduceScatterV: {
      for (size_t r = 0; r < n; ++r) recvcounts_.push_back(block_count(static_cast<int>(r), 0));
      size_t first = 0;
      for (size_t r = 0; r < me; ++r) first += recvcounts_[r];
      send_elements_ = total(recvcounts_), recv_elements_ = recvcounts_[me], recv_at_ = first;
      rest_undefined_ = aliased_;
      segments_.push_back({0, recvcounts_[me], -1, first});
      break;
    }
    case kAllToAll:
      send_elements_ = recv_elements_ = n * count_;
      for (size_t r = 0; r < n; ++r) segments_.push_back({r * count_, count_, static_cast<int>(r), me * count_});
      break;
    case kAllToAllV:
      for (size_t r = 0; r < n; ++r) {
        sendcounts_.push_back(block_count(rank_, static_cast<int>(r)));
        recvcounts_.push_back(block_count(static_cast<int>(r), rank_));
      }
      sdispls_ = displacements(sendcounts_, rank_, 0);
      rdispls_ = displacements(recvcounts_, rank_, 1);
      send_elements_ = extent(sendcounts_, sdispls_), recv_elements_ = extent(recvcounts_, rdispls_);
      for (size_t r = 0; r < n; ++r) {
        std::vector<size_t> theirs;
        for (size_t to = 0; to < n; ++to) theirs.push_back(block_count(static_cast<int>(r), static_cast<int>(to)));
        segments_.push_back(
            {rdispls_[r], recvcounts_[r], static_cast<int>(r), displacements(theirs, static_cast<int>(r), 0)[me]});
      }
      break;
    case kGather:
      send_elements_ = count_, recv_elements_ = n * count_, send_at_ = me * count_;
      aliased_ = in_place && is_root;
      if (is_root)
        for (size_t r = 0; r < n; ++r) segments_.push_back({r * count_, count_, static_cast<int>(r), 0});
      break;
    case kScatter:
      send_elements_ = n * count_, recv_elements_ = count_, recv_at_ = me * count_;
      aliased_ = in_place && is_root;
      segments_.push_back({0, count_, root_, me * count_});
      break;
    case kSendRecv:
      send_elements_ = recv_elements_ = n * count_;
      aliased_ = false;
      for (size_t r = 0; r < n; ++r) {
        const bool receives = case_.root == 0 ? r == (me + n - 1) % n : case_.root == 1 ? r == (me ^ 1) : true;
        if (receives) segments_.push_back({r * count_, count_, static_cast<int>(r), me * count_});
      }
      break;
    case kBarrier:
    case kColls:
      aliased_ = false;
      break;
  }
}

void Runner::fill() {
  const size_t buffer_elements =
      aliased_ ? std::max(send_at_ + send_elements_, recv_at_ + recv_elements_) : recv_elements_;
  // Now and then one rank's buffer, or both, lie outside the window.
  const uint64_t dice = copied(case_.seed ^ 0x77696Eu, rank_, 0) >> 8;
  const bool must = gpus::used_by(rank_);  // there, only that memory can be used
  unsigned char* in_window = !must && dice % 8 == 0 ? nullptr : window_;
  unsigned char* also = in_window == nullptr || (!must && dice % 8 == 1) ? nullptr : window_ + kWindowBytes / 2;
  if (on_gpu_ != nullptr && dice % 8 == 0) in_window += kWindowBytes;
  if (on_gpu_ != nullptr && dice % 8 < 2) also += kWindowBytes;
  recv_buffer_.make(buffer_elements, element_, case_.shift, in_window, kWindowBytes / 2);
  if (aliased_) {
    send_ = recv_buffer_.data() + send_at_ * element_;
    recv_ = recv_buffer_.data() + recv_at_ * element_;
  } else {
    send_buffer_.make(send_elements_, element_, case_.shift, also, kWindowBytes / 2);
    send_ = send_buffer_.data(), recv_ = recv_buffer_.data();
  }
  auto* const input = const_cast<unsigned char*>(send_);
  with_width(element_, [&](auto width) {
    using T = decltype(width);
    T* const elements = reinterpret_cast<T*>(input);
    if (reduces(case_.coll)) {
      const std::vector<uint64_t>& mine = table(case_.type, case_.op, world_.n).in[static_cast<size_t>(rank_)];
      for_columns(0, send_elements_, [&](size_t at, size_t k) {
        elements[at] = static_cast<T>(mine[k]);
        return true;
      });
    } else {
      for (size_t at = 0; at < send_elements_; ++at) elements[at] = static_cast<T>(copied(case_.seed, rank_, at));
    }
  });
  send_copy_.assign(send_, send_ + send_elements_ * element_);
  before_.assign(recv_buffer_.data(), recv_buffer_.data() + recv_buffer_.bytes());
}

std::string Runner::prepare(const Case& one) {
  case_ = one;
  root_ = one.root == 0 ? 0 : one.root == 1 ? world_.n - 1 : world_.n / 2;
  count_ = element_count(world_, one);
  element_ = element_bytes(one.type);
  lay_out();
  fill();
  if (const std::string wrong = to_gpu(); !wrong.empty()) return wrong;
  op_ = static_cast<tuttiRedOp_t>(one.op);
  if (!reduces(one.coll) || one.op != kPreMulSum) return "";
  const uint64_t scalar = table(one.type, one.op, world_.n).scale[static_cast<size_t>(rank_)];
  return result(tuttiRedOpCreatePreMulSum(&op_, &scalar, static_cast<tuttiDataType_t>(one.type),
                                          TUTTI_SCALAR_HOST_IMMEDIATE, comm_),
                "tuttiRedOpCreatePreMulSum");
}

std::string Runner::issue_pairs(tuttiStream_t stream) {
  const auto type = static_cast<tuttiDataType_t>(case_.type);
  const int n = world_.n, me = rank_;
  const auto send = [&](int to) {
    return result(
        tuttiSend(passed(send_) + static_cast<size_t>(to) * count_ * element_, count_, type, to, comm_, stream),
        "tuttiSend");
  };
  const auto recv = [&](int from) {
    return result(
        tuttiRecv(passed(recv_) + static_cast<size_t>(from) * count_ * element_, count_, type, from, comm_, stream),
        "tuttiRecv");
  };
  if (case_.root == 1) {  // no group of its own: the even rank of a pair sends first, the odd one receives first
    const int peer = me ^ 1;
    if (peer >= n) return "";
    std::string wrong = me % 2 == 0 ? send(peer) : recv(peer);
    if (wrong.empty()) wrong = me % 2 == 0 ? recv(peer) : send(peer);
    return wrong;
  }
  std::string wrong = result(tuttiGroupStart(), "tuttiGroupStart");
  if (case_.root == 0) {
    if (wrong.empty()) wrong = send((me + 1) % n);
    if (wrong.empty()) wrong = recv((me + n - 1) % n);
  } else {
    for (int r = 0; r < n && wrong.empty(); ++r) {
      wrong = recv(r);
      if (wrong.empty()) wrong = send(r);
    }
  }
  const std::string end = result(tuttiGroupEnd(), "tuttiGroupEnd");
  return wrong.empty() ? end : wrong;
}

std::string Runner::issue() {
  const tuttiStream_t stream = case_.on_stream ? stream_ : nullptr;
  const auto type = static_cast<tuttiDataType_t>(case_.type);
  const bool is_root = rank_ == root_;
  // Where only the root has a buffer, the others pass what they have, or, in the in-place variant, NULL.
  const void* const root_send = is_root || !case_.in_place ? passed(send_) : nullptr;
  void* const root_recv = is_root || !case_.in_place ? passed(recv_) : nullptr;
  switch (static_cast<Coll>(case_.coll)) {
    case kAllReduce:
      return result(tuttiAllReduce(passed(send_), passed(recv_), count_, type, op_, comm_, stream), "tuttiAllReduce");
    case kReduce:
      return result(tuttiReduce(passed(send_), root_recv, count_, type, op_, root_, comm_, stream), "tuttiReduce");
    case kBroadcast:
      return result(tuttiBroadcast(root_send, passed(recv_), count_, type, root_, comm_, stream), "tuttiBroadcast");
    case kAllGather:
      return result(tuttiAllGather(passed(send_), passed(recv_), count_, type, comm_, stream), "tuttiAllGather");
    case kAllGatherV:
      return result(tuttiAllGatherV(passed(send_), send_elements_, passed(recv_), recvcounts_.data(), rdispls_.data(),
                                    type, comm_, stream),
                    "tuttiAllGatherV");
    case kReduceScatter:
      return result(tuttiReduceScatter(passed(send_), passed(recv_), count_, type, op_, comm_, stream),
                    "tuttiReduceScatter");
    case kReduceScatterV:
      return result(tuttiReduceScatterV(passed(send_), passed(recv_), recvcounts_.data(), type, op_, comm_, stream),
                    "tuttiReduceScatterV");
    case kAllToAll:
      return result(tuttiAllToAll(passed(send_), passed(recv_), count_, type, comm_, stream), "tuttiAllToAll");
    case kAllToAllV:
      return result(tuttiAllToAllV(passed(send_), sendcounts_.data(), sdispls_.data(), passed(recv_),
                                   recvcounts_.data(), rdispls_.data(), type, comm_, stream),
                    "tuttiAllToAllV");
    case kGather:
      return result(tuttiGather(passed(send_), root_recv, count_, type, root_, comm_, stream), "tuttiGather");
    case kScatter:
      return result(tuttiScatter(root_send, passed(recv_), count_, type, root_, comm_, stream), "tuttiScatter");
    case kBarrier:
      ++barriers_;
      page_.member[rank_].entered.store(barriers_, std::memory_order_seq_cst);
      return result(tuttiBarrier(comm_, stream), "tuttiBarrier");
    case kSendRecv:
      return issue_pairs(stream);
    case kColls:
      break;
  }
  return "no such collective";
}

std::string Runner::to_gpu() {
  for (const Guarded* buffer : {&recv_buffer_, &send_buffer_}) {
    if (on_gpu_ == nullptr || (aliased_ && buffer == &send_buffer_)) continue;
    const std::string wrong = gpus::copy(rank_, passed(buffer->raw()), buffer->raw(), buffer->raw_bytes());
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string Runner::from_gpu() {
  for (const Guarded* buffer : {&recv_buffer_, &send_buffer_}) {
    if (on_gpu_ == nullptr || (aliased_ && buffer == &send_buffer_)) continue;
    const std::string wrong = gpus::copy(rank_, buffer->raw(), passed(buffer->raw()), buffer->raw_bytes());
    if (!wrong.empty()) return wrong;
  }
  return "";
}

std::string Runner::synchronize() {
  if (gpus::used_by(rank_)) {
    const std::string wrong = gpus::synchronize(rank_, case_.on_stream ? stream_ : nullptr);
    return wrong.empty() ? from_gpu() : wrong;
  }
  return case_.on_stream ? result(tuttiStreamSynchronize(stream_), "tuttiStreamSynchronize") : "";
}

std::string Runner::compare(const Segment& s) const {
  return with_width(element_, [&](auto width) -> std::string {
    using T = decltype(width);
    const T* const got = reinterpret_cast<const T*>(recv_) + s.offset;
    const auto wrong = [&](size_t at, T want, const char* remark) {
      char text[200];
      const std::string source = s.source < 0 ? "" : " from rank " + std::to_string(s.source);
      std::snprintf(text, sizeof text, "element %zu (%zu of %zu%s) is %#llx, not %#llx%s", s.offset + at, at, s.count,
                    source.c_str(), static_cast<unsigned long long>(got[at]), static_cast<unsigned long long>(want),
                    remark);
      return std::string(text);
    };
    std::string found;
    if (s.source >= 0) {
      for (size_t at = 0; at < s.count; ++at) {
        const auto want = static_cast<T>(copied(case_.seed, s.source, s.index + at));
        if (got[at] != want) return wrong(at, want, "");
      }
      return found;
    }
    const Table& expected = table(case_.type, case_.op, world_.n);
    for_columns(s.index, s.count, [&](size_t at, size_t k) {
      const auto want = static_cast<T>(expected.out[k]);
      if (got[at] == want && !expected.nan[k]) [[likely]]
        return true;
      if (expected.nan[k] && is_nan(got[at], case_.type)) return true;
      found = wrong(at, want, expected.nan[k] ? " but a NaN" : "");
      return false;
    });
    return found;
  });
}

// Bytes of the output buffer that belong to no segment are as before.
std::string Runner::compare_untouched() const {
  if (rest_undefined_) return "";
  std::vector<std::pair<size_t, size_t>> written;
  for (const Segment& s : segments_)
    written.push_back({(recv_at_ * aliased_ + s.offset) * element_, s.count * element_});
  std::sort(written.begin(), written.end());
  size_t at = 0;
  written.push_back({recv_buffer_.bytes(), 0});
  for (const auto& [begin, bytes] : written) {
    if (begin > at && std::memcmp(recv_buffer_.data() + at, before_.data() + at, begin - at) != 0)
      return "bytes [" + std::to_string(at) + ", " + std::to_string(begin) + ") of recv are nobody's but changed";
    at = std::max(at, begin + bytes);
  }
  return "";
}

std::string Runner::check() {
  std::string wrong;
  for (const Segment& segment : segments_)
    if (wrong.empty()) wrong = compare(segment);
  if (wrong.empty()) wrong = compare_untouched();
  if (wrong.empty()) wrong = recv_buffer_.damage();
  if (wrong.empty() && !aliased_) {
    if (!send_copy_.empty() && std::memcmp(send_copy_.data(), send_, send_copy_.size()) != 0)
      wrong = "send was changed";
    if (wrong.empty()) wrong = send_buffer_.damage();
  }
  if (wrong.empty() && case_.coll == kBarrier) {
    for (int r = 0; r < world_.n && wrong.empty(); ++r) {
      const uint64_t entered = page_.member[r].entered.load(std::memory_order_seq_cst);
      if (entered < barriers_)
        wrong = "left barrier " + std::to_string(barriers_) + " while rank " + std::to_string(r) + " had entered " +
                std::to_string(entered);
    }
  }
  if (reduces(case_.coll) && case_.op == kPreMulSum) {
    const std::string destroyed = result(tuttiRedOpDestroy(op_, comm_), "tuttiRedOpDestroy");
    if (wrong.empty()) wrong = destroyed;
  }
  return wrong;
}

}  // namespace conformance
