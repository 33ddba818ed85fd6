// SPDX-License-Identifier: Apache-2.0
// Messages of the out-of-band tree: data or a failure, and the parts of all ranks inside.
#include "bootstrap/messages.h"
#include "fuzz/target.h"

using namespace tutti;

namespace {

constexpr uint32_t kSequence = 7;
constexpr size_t kMostBlob = 1 << 20;

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const std::vector<std::byte> blob(5, std::byte{9});
  std::vector<Input> seeds;
  for (const uint8_t ranks : {0, 1, 2, 3}) {
    ByteWriter writer = begin_tree_data(kSequence);
    for (int rank = ranks - 1; rank >= 0; --rank) add_tree_part(writer, rank, blob);
    seeds.push_back(Input{ranks} + input_of(writer.bytes()));
  }
  seeds.push_back(Input{2} + input_of(encode_tree_failure(kSequence, remote_error("rank 3 left"))));
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices input(data, size);
  const size_t ranks = input.byte();
  const auto rest = input.bytes();
  const Result<Bytes> payload = parse_tree_message(Bytes(rest.begin(), rest.end()), kSequence, "rank 1");
  if (!payload.ok()) {
    fuzz::require(payload.status().message().size() <= kMaxErrorText, "a failure beyond its bound");
    return 0;
  }
  const auto parts = parse_tree_parts(*payload, ranks, kMostBlob);
  if (!parts) return 0;
  fuzz::require(parts->size() == ranks, "parts of another number of ranks");
  size_t bytes = 0;
  for (const Bytes& part : *parts) bytes += part.size();
  fuzz::require(bytes <= payload->size(), "more data than arrived");
  return 0;
}
