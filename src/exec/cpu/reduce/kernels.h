// SPDX-License-Identifier: Apache-2.0
// The loops of the reductions and their table, for one target.
//
// Included once by each of baseline.cc, avx2.cc and avx512.cc, which define TUTTI_REDUCE_TARGET, the namespace. Those
// objects must not define anything outside that namespace (tests/exec_cpu_reduce checks it): a function compiled here
// from a shared header could otherwise be the linker's choice for the whole program.
//
//   destination   |head| block | block | ... | block | vector | vector | tail |
//                      ^ aligned to a vector (long calls)
//
// Head and tail, and calls shorter than a vector, go in steps of 16, 8 and 4 bytes and one of the rest; the arithmetic
// is the same code on another width, so every element gets the same bits wherever it lies.
#pragma once

#include "exec/cpu/reduce/forms.h"
#include "exec/cpu/reduce/targets.h"

namespace tutti::TUTTI_REDUCE_TARGET {
namespace {

// Accumulators of a block: what the register file holds beside operands and constants, 32 vectors or 16.
constexpr int kAccumulators = kVectorBytes == 64 ? 8 : 4;
// From here on a head is worth its price: unaligned vectors that straddle two cache lines cost twice.
constexpr size_t kAlignFrom = 2048;

// What the loops need of a Reduction, by value: destinations may alias anything the compiler cannot see, so it would
// read the original's fields again after every store.
struct Call {
  const void* const* sources;
  void* const* destinations;
  int source_count;
  int scaled_source;  // -1 unless there is a factor
  int destination_count;
  uint32_t streamed;
  const Scale* pre;
  const Scale* post;  // null: none
};
TUTTI_INLINE Call call_of(const Reduction& r, uint32_t streamed) {
  return {
      r.sources,           r.destinations, r.source_count, r.pre.kind == Scale::Kind::Multiply ? r.scaled_source : -1,
      r.destination_count, streamed,       &r.pre,         r.post.kind == Scale::Kind::Divide ? &r.post : nullptr};
}

TUTTI_INLINE const char* at(const void* base, size_t offset) { return static_cast<const char*>(base) + offset; }
TUTTI_INLINE char* at(void* base, size_t offset) { return static_cast<char*>(base) + offset; }

// `kVectors` vectors at byte `offset`. `Load` reads vector v of a source, `Store` gets the results.
template <class F, ReduceOp op, int kVectors, class Load>
TUTTI_INLINE void accumulate(const Call& call, typename F::Wide (&total)[kVectors], Load load) {
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) total[v] = load(call.sources[0], v);
  if constexpr (op == ReduceOp::Sum) {
    if (call.scaled_source == 0) [[unlikely]] {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) total[v] = F::multiply(total[v], *call.pre);
    }
  }
  for (int s = 1; s < call.source_count; ++s) {
    const void* source = call.sources[s];
    if constexpr (op == ReduceOp::Sum) {
      if (call.scaled_source == s) [[unlikely]] {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) total[v] = F::combine(total[v], F::multiply(load(source, v), *call.pre));
        continue;
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) total[v] = F::combine(total[v], load(source, v));
  }
  if constexpr (op == ReduceOp::Sum) {
    if (call.post != nullptr) [[unlikely]]
      F::divide(total, *call.post);
  }
}

template <int B, int kVectors>
TUTTI_INLINE void put(char* to, const Vec<uint64_t, B> (&packed)[kVectors], bool streamed) {
  if (streamed) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) stream(to + B * v, packed[v]);
  } else {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(to + B * v, packed[v]);
  }
}

template <class T, ReduceOp op, int B, int kVectors>
TUTTI_INLINE void block(const Call& call, size_t offset) {
  using F = Form<T, op, B>;
  typename F::Wide total[kVectors];
  accumulate<F, op, kVectors>(
      call, total, [=](const void* source, int v) __attribute__((always_inline)) {
        return F::load(at(source, offset + B * v));
      });
  Vec<uint64_t, B> packed[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) packed[v] = F::pack(total[v]);
  for (int d = 0; d < call.destination_count; ++d)
    put<B>(at(call.destinations[d], offset), packed, (call.streamed >> d & 1) != 0);
}

// Whole blocks of one or two sources without a factor, to one or two destinations: copies, and what two ranks reduce.
// As block(), with all pointers in registers: a loop that asks for them anew has fewer loads under way, and takes a
// tenth longer from memory. Returns where it ended.
template <class T, ReduceOp op, int B, int kVectors, int kSources>
TUTTI_INLINE size_t few(const Call& call, size_t offset, size_t bytes) {
  using F = Form<T, op, B>;
  const void* const a = call.sources[0];
  const void* const b = call.sources[kSources - 1];
  void* const first = call.destinations[0];
  void* const second = call.destination_count > 1 ? call.destinations[1] : nullptr;
  const bool stream_first = (call.streamed & 1) != 0, stream_second = (call.streamed & 2) != 0;
  constexpr size_t kBlock = static_cast<size_t>(kVectors) * B;
  for (; offset + kBlock <= bytes; offset += kBlock) {
    Vec<uint64_t, B> packed[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      typename F::Wide total = F::load(at(a, offset + B * v));
      if constexpr (kSources == 2) total = F::combine(total, F::load(at(b, offset + B * v)));
      packed[v] = F::pack(total);
    }
    put<B>(at(first, offset), packed, stream_first);
    if (second != nullptr) put<B>(at(second, offset), packed, stream_second);
  }
  return offset;
}

template <class T>
constexpr size_t kElementBytes = sizeof(T);
template <class S, class K, int E, int M, bool I, bool X>
constexpr size_t kElementBytes<SmallFloat<S, K, E, M, I, X>> = sizeof(S);

// The `part.bytes` bytes at `offset`.
template <class T, ReduceOp op, class Part>
TUTTI_INLINE void partial(const Call& call, size_t offset, Part part) {
  using F = Form<T, op, kEdgeBytes>;
  typename F::Wide total[1];
  accumulate<F, op, 1>(
      call, total, [=](const void* source, int) __attribute__((always_inline)) {
        return F::unpack(part.load(at(source, offset)));
      });
  const auto packed = F::pack(total[0]);
  for (int d = 0; d < call.destination_count; ++d) part.store(at(call.destinations[d], offset), packed);
}

// Bytes [from, to), written through the caches.
template <class T, ReduceOp op>
[[gnu::noinline]] void edge(const Reduction& r, size_t from, size_t to) {
  const Call call = call_of(r, 0);
  for (; from + kEdgeBytes <= to; from += kEdgeBytes) block<T, op, kEdgeBytes, 1>(call, from);
  while (from + 4 <= to) {
    const WordPart part{to - from >= 8 ? size_t{8} : size_t{4}};
    partial<T, op>(call, from, part);
    from += part.bytes;
  }
  if constexpr (kElementBytes<T> < 4) {
    if (from != to) partial<T, op>(call, from, BytePart{to - from});
  }
}

// Bytes until the destination to align on (the first streamed one, else the first) begins a vector; clears the streamed
// bit of destinations that lie differently, since non-temporal stores need alignment.
[[gnu::noinline]] size_t choose_head(Call& call, size_t element_bytes) {
  const int first = call.streamed != 0 ? __builtin_ctz(call.streamed) : 0;
  const auto misalignment = [&](int d) { return reinterpret_cast<uintptr_t>(call.destinations[d]) % kVectorBytes; };
  const size_t head = (kVectorBytes - misalignment(first)) % kVectorBytes;
  if (head % element_bytes != 0) {
    call.streamed = 0;
    return 0;
  }
  for (int d = first + 1; d < call.destination_count; ++d) {
    if (misalignment(d) != misalignment(first)) call.streamed &= ~(1u << d);
  }
  return head;
}

// The row of the table that copies: of one source, the greatest is the source.
template <class T, ReduceOp op>
constexpr bool kCopies = false;
template <>
constexpr bool kCopies<uint8_t, ReduceOp::Max> = true;

template <class T, ReduceOp op>
[[gnu::noinline]] void bulk(const Reduction& r, size_t bytes) {
  constexpr int kVectors = kAccumulators / Form<T, op, kVectorBytes>::kRegisters;
  constexpr size_t kBlock = static_cast<size_t>(kVectors) * kVectorBytes;
  const bool align = bytes >= kAlignFrom;
  Call call = call_of(r, align ? r.streamed : 0);
  size_t offset = 0;
  if (align) {
    offset = choose_head(call, kElementBytes<T>);
    if (offset != 0) edge<T, op>(r, 0, offset);
  }
  if (call.scaled_source < 0 && call.post == nullptr && call.destination_count <= 2) {
    if (call.source_count == 2) offset = few<T, op, kVectorBytes, kVectors, 2>(call, offset, bytes);
    if constexpr (kCopies<T, op>) {
      if (call.source_count == 1) offset = few<T, op, kVectorBytes, kVectors, 1>(call, offset, bytes);
    }
  }
  for (; offset + kBlock <= bytes; offset += kBlock) block<T, op, kVectorBytes, kVectors>(call, offset);
  for (; offset + kVectorBytes <= bytes; offset += kVectorBytes) block<T, op, kVectorBytes, 1>(call, offset);
  if (offset != bytes) edge<T, op>(r, offset, bytes);
  if (call.streamed != 0) fence();
}

// Eight bytes without a factor: most of what short calls reduce.
template <class T, ReduceOp op>
TUTTI_INLINE void eight(const Reduction& r) {
  using F = Form<T, op, kEdgeBytes>;
  constexpr WordPart part{8};
  typename F::Wide total = F::unpack(part.load(at(r.sources[0], 0)));
  for (int s = 1; s < r.source_count; ++s) total = F::combine(total, F::unpack(part.load(at(r.sources[s], 0))));
  const auto packed = F::pack(total);
  for (int d = 0; d < r.destination_count; ++d) part.store(at(r.destinations[d], 0), packed);
}

template <class T, ReduceOp op>
void reduce(const Reduction& r) {
  const size_t bytes = r.count * kElementBytes<T>;
  if (bytes == 8 && r.pre.kind == Scale::Kind::None && r.post.kind == Scale::Kind::None) return eight<T, op>(r);
  if (bytes < kVectorBytes) return edge<T, op>(r, 0, bytes);
  bulk<T, op>(r, bytes);
}

#define TUTTI_REDUCE_ROW(T) \
  { &reduce<T, ReduceOp::Sum>, &reduce<T, ReduceOp::Prod>, &reduce<T, ReduceOp::Max>, &reduce<T, ReduceOp::Min> }
constexpr ReduceKernels kTable = {
    {
        TUTTI_REDUCE_ROW(int8_t),      // Int8
        TUTTI_REDUCE_ROW(uint8_t),     // Uint8
        TUTTI_REDUCE_ROW(int32_t),     // Int32
        TUTTI_REDUCE_ROW(uint32_t),    // Uint32
        TUTTI_REDUCE_ROW(int64_t),     // Int64
        TUTTI_REDUCE_ROW(uint64_t),    // Uint64
        TUTTI_REDUCE_ROW(Float16),     // Float16
        TUTTI_REDUCE_ROW(float),       // Float32
        TUTTI_REDUCE_ROW(double),      // Float64
        TUTTI_REDUCE_ROW(Bfloat16),    // Bfloat16
        TUTTI_REDUCE_ROW(Float8E4m3),  // Float8E4m3
        TUTTI_REDUCE_ROW(Float8E5m2),  // Float8E5m2
    },
    &reduce<uint8_t, ReduceOp::Max>,
};
#undef TUTTI_REDUCE_ROW

}  // namespace

extern const ReduceKernels kKernels;
const ReduceKernels kKernels = kTable;

}  // namespace tutti::TUTTI_REDUCE_TARGET
