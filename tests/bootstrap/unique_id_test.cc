// SPDX-License-Identifier: Apache-2.0
// The 128 bytes of a unique id: what goes in comes out, and what is damaged says so.
#include "bootstrap/unique_id.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

UniqueId sample(std::initializer_list<const char*> addresses) {
  EXPECT_TRUE(crypto_ready().ok());
  UniqueId id{random_secret(), {}};
  for (const char* text : addresses) id.addresses.push_back(*SocketAddress::parse(text));
  return id;
}

TEST(UniqueId, RoundTrip) {
  const UniqueId id = sample({"192.0.2.1:4242", "[2001:db8::1]:4242", "127.0.0.1:4242"});
  const auto decoded = decode_unique_id(encode_unique_id(id));
  ASSERT_TRUE(decoded.ok()) << decoded.status().message();
  EXPECT_EQ(decoded->secret, id.secret);
  EXPECT_EQ(decoded->addresses, id.addresses);
}

TEST(UniqueId, AddressesThatDoNotFitAreLeftOut) {
  const UniqueId id = sample(
      {"[2001:db8::1]:9", "[2001:db8::2]:9", "[2001:db8::3]:9", "[2001:db8::4]:9", "[2001:db8::5]:9", "127.0.0.1:9"});
  const auto decoded = decode_unique_id(encode_unique_id(id));
  ASSERT_TRUE(decoded.ok());
  ASSERT_EQ(decoded->addresses.size(), 4u);
  EXPECT_EQ(decoded->addresses[3].text(), "[2001:db8::4]:9");
}

TEST(UniqueId, EveryFlippedBitIsNoticed) {
  const auto good = encode_unique_id(sample({"192.0.2.1:4242", "[::1]:4242"}));
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(decode_unique_id(bad).status().code(), Code::InvalidArgument) << bit;
  }
}

TEST(UniqueId, ZerosAndForeignIdsAreNamed) {
  std::array<char, kUniqueIdBytes> bytes{};
  EXPECT_NE(decode_unique_id(bytes).status().message().find("all zeros"), std::string::npos);
  bytes.fill('x');
  EXPECT_NE(decode_unique_id(bytes).status().message().find("not made by tuttiGetUniqueId"), std::string::npos);
}

}  // namespace
}  // namespace tutti
