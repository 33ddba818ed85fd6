// SPDX-License-Identifier: Apache-2.0
// The rendezvous's messages and its judgement, without sockets: round trips, any bytes, texts.
#include "bootstrap/messages.h"

#include <gtest/gtest.h>

#include <random>

namespace tutti {
namespace {

JoinRequest request_of(int rank, int ranks) {
  EXPECT_TRUE(crypto_ready().ok());
  JoinRequest request;
  request.library_version = 100;
  request.byte_order = 1;
  request.word_bytes = 8;
  request.ranks = ranks;
  request.member.rank = rank;
  request.member.pid = 1000 + rank;
  request.member.hostname = "node";
  request.timeout_ms = 5;
  request.config_digest = 0x1234567890abcdef;
  request.config_text = "A=1";
  request.addresses = {*SocketAddress::parse("192.0.2.1:5"), *SocketAddress::parse("[::1]:5")};
  request.info = Bytes(100, std::byte{7});
  return request;
}

TEST(Messages, RequestRoundTrip) {
  const JoinRequest request = request_of(2, 4);
  const auto parsed = parse_request(encode_request(request));
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ(parsed->member.rank, 2);
  EXPECT_EQ(parsed->ranks, 4);
  EXPECT_EQ(parsed->config_digest, request.config_digest);
  EXPECT_EQ(parsed->config_text, "A=1");
  EXPECT_EQ(parsed->addresses, request.addresses);
  EXPECT_EQ(parsed->info, request.info);
  EXPECT_EQ(parsed->timeout_ms, 5);
}

TEST(Messages, TheHeadOfARequestOfAnotherWireFormatIsRead) {
  JoinRequest request = request_of(2, 4);
  request.abi = kWireAbi + 1;
  Bytes bytes = encode_request(request);
  bytes.resize(bytes.size() - 50);
  const auto parsed = parse_request(bytes);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->member.rank, 2);
}

TEST(Messages, TableAndRefusalRoundTrip) {
  const std::vector<JoinRequest> requests{request_of(0, 2), request_of(1, 2)};
  const auto table = parse_answer(encode_table(requests), 2);
  ASSERT_TRUE(table.ok()) << table.status().message();
  EXPECT_EQ(table->at(1).member.pid, 1001);
  EXPECT_EQ(table->at(1).info, requests[1].info);
  EXPECT_FALSE(parse_answer(encode_table(requests), 3).ok());
  const auto place = parse_place(encode_place(requests[0], 2), 2, 1);
  ASSERT_TRUE(place.ok()) << place.status().message();
  EXPECT_EQ(place->member.rank, 0);
  EXPECT_EQ(place->addresses, requests[0].addresses);
  EXPECT_FALSE(parse_place(encode_place(requests[1], 2), 2, 1).ok()) << "that is not the parent of rank 1";
  EXPECT_FALSE(parse_place(encode_place(requests[0], 3), 2, 1).ok());
  EXPECT_EQ(parse_place(encode_refusal(invalid_usage("because")), 2, 1).status().message(), "because");
  const auto refusal = parse_answer(encode_refusal(invalid_usage("because")), 2);
  EXPECT_EQ(refusal.status().code(), Code::InvalidUsage);
  EXPECT_EQ(refusal.status().message(), "because");
}

TEST(Messages, EveryTruncationIsAnError) {
  const Bytes request = encode_request(request_of(0, 2));
  for (size_t size = 0; size < request.size(); ++size) EXPECT_FALSE(parse_request(std::span(request).first(size)).ok());
  const std::vector<JoinRequest> requests{request_of(0, 2), request_of(1, 2)};
  const Bytes table = encode_table(requests);
  for (size_t size = 0; size < table.size(); ++size) EXPECT_FALSE(parse_answer(std::span(table).first(size), 2).ok());
}

TEST(Messages, AnyBytesAreParsedWithoutHarm) {
  std::mt19937 random(1);
  const Bytes request = encode_request(request_of(0, 2));
  const Bytes table = encode_table(std::vector<JoinRequest>{request_of(0, 2), request_of(1, 2)});
  for (int i = 0; i < 20000; ++i) {
    Bytes a = request, b = table, c(random() % 300);
    a[random() % a.size()] = static_cast<std::byte>(random());
    b[random() % b.size()] = static_cast<std::byte>(random());
    for (std::byte& byte : c) byte = static_cast<std::byte>(random());
    (void)parse_request(a).ok();
    (void)parse_answer(b, 2).ok();
    (void)parse_request(c).ok();
    (void)parse_answer(c, 1 << 16).ok();
  }
}

TEST(Messages, RanksAsText) {
  EXPECT_EQ(text_of_ranks({}), "");
  EXPECT_EQ(text_of_ranks({5, 3}), "3, 5");
  EXPECT_EQ(text_of_ranks({0, 1}), "0, 1");
  EXPECT_EQ(text_of_ranks({7, 0, 1, 2, 3}), "0-3, 7");
}

TEST(Messages, MissingRanks) {
  const std::vector<JoinRequest> requests{request_of(0, 3), request_of(2, 3)};
  EXPECT_EQ(missing_ranks(requests, 120000).message(),
            "1 of 3 ranks is missing after 120 s: 1; were they all started? TUTTI_INIT_TIMEOUT sets the wait");
}

TEST(Messages, RanksThatFitHaveNoConflict) {
  const std::vector<JoinRequest> requests{request_of(2, 3), request_of(0, 3), request_of(1, 3)};
  EXPECT_FALSE(find_conflict(requests).has_value());
}

TEST(Messages, AnEvenSplitBlamesNobody) {
  std::vector<JoinRequest> requests{request_of(0, 2), request_of(1, 3)};
  EXPECT_EQ(find_conflict(requests)->message(),
            "the ranks do not agree on the number of ranks: rank 0 (node, process 1000) has nranks 2; rank 1 (node, "
            "process 1001) has nranks 3; pass the same nranks on all ranks");
}

TEST(Messages, AnotherMachineIsNamed) {
  std::vector<JoinRequest> requests{request_of(0, 3), request_of(1, 3), request_of(2, 3)};
  requests[1].byte_order = 2;
  EXPECT_NE(find_conflict(requests)->message().find("rank 1 (node, process 1001) has 64-bit big-endian"),
            std::string::npos);
}

TEST(Messages, ConfigurationsWithoutTextsShowTheDigest) {
  std::vector<JoinRequest> requests{request_of(0, 3), request_of(1, 3), request_of(2, 3)};
  requests[1].config_digest = 0xab;
  EXPECT_NE(find_conflict(requests)->message().find("rank 1 (node, process 1001) has configuration 00000000000000ab"),
            std::string::npos);
}

}  // namespace
}  // namespace tutti
