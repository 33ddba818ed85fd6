// SPDX-License-Identifier: Apache-2.0
// Messages of the rendezvous: requests to join (and what is made of several that do not fit together), and its answer.
#include "bootstrap/messages.h"
#include "fuzz/target.h"

namespace {

using namespace tutti;

JoinRequest request_of(int rank, int ranks) {
  JoinRequest request;
  request.library_version = 100;
  request.byte_order = 1;
  request.word_bytes = 8;
  request.ranks = ranks;
  request.member.rank = rank;
  request.member.pid = 4242;
  request.member.hostname = "node7";
  request.timeout_ms = 1000;
  request.config_digest = 7;
  request.config_text = "TUTTI_ALGO=auto\nTUTTI_PROTO=ll\n";
  request.addresses = {*SocketAddress::parse("192.0.2.1:29500"), *SocketAddress::parse("[2001:db8::1]:29500")};
  request.info.resize(12);
  return request;
}

enum Kind : uint8_t { kRequests, kAnswer, kKinds };

void take_requests(fuzz::Choices& input) {
  std::vector<JoinRequest> requests;
  while (!input.empty() && requests.size() < 16) {
    Result<JoinRequest> request = parse_request(input.bytes(input.up_to(4096)));
    if (!request.ok()) continue;
    fuzz::require(request->config_text.size() <= kMaxConfigText, "a configuration beyond its bound");
    fuzz::require(request->info.size() <= kMaxInfoBytes, "a blob beyond its bound");
    fuzz::require(request->addresses.size() <= kMaxAddresses, "too many addresses");
    if (request->abi == kWireAbi) {
      const Result<JoinRequest> again = parse_request(encode_request(*request));
      fuzz::require(again.ok() && encode_request(*again) == encode_request(*request), "an unstable request");
    }
    requests.push_back(std::move(*request));
  }
  if (requests.empty()) return;
  const auto conflict = find_conflict(requests);
  fuzz::require(!conflict || !conflict->ok(), "a conflict that is none");
  // The server asks who is missing only when the requests fit together.
  if (!conflict) (void)missing_ranks(requests, 1000);
  const Bytes refusal = encode_refusal(conflict.value_or(system_error("none")));
  fuzz::require(!parse_answer(refusal, 4).ok(), "a refusal taken for a table");
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  std::vector<JoinRequest> all;
  for (const int rank : {0, 1, 1}) {
    all.push_back(request_of(rank, 2));
    Input requests{kRequests};
    for (const JoinRequest& request : all) {
      const Bytes bytes = encode_request(request);
      requests = requests + Input{static_cast<uint8_t>(bytes.size()), static_cast<uint8_t>(bytes.size() >> 8)} +
                 input_of(bytes);
    }
    seeds.push_back(requests);
  }
  all.pop_back();
  seeds.push_back(Input{kAnswer, 2} + input_of(encode_table(all)));
  seeds.push_back(Input{kAnswer, 2} + input_of(encode_refusal(invalid_usage("no"))));
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices input(data, size);
  if (input.byte() % kKinds == kRequests) {
    take_requests(input);
    return 0;
  }
  const int ranks = input.byte();
  const auto bytes = input.bytes();
  const auto place = parse_place(bytes, ranks, ranks);
  if (place.ok()) fuzz::require(place->member.rank == tree_parent(ranks), "the place of another rank");
  const auto table = parse_answer(bytes, ranks);
  if (!table.ok()) return 0;
  fuzz::require(table->size() == static_cast<size_t>(ranks), "a table of another size");
  for (int rank = 0; rank < ranks; ++rank)
    fuzz::require((*table)[static_cast<size_t>(rank)].member.rank == rank, "a table out of order");
  return 0;
}
