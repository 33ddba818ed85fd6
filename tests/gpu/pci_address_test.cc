// SPDX-License-Identifier: Apache-2.0
#include "base/pci_address.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

TEST(PciAddress, EverybodysSpellingsMeanOneDevice) {
  for (const char* text : {"0000:3b:00.0", "00000000:3B:00.0", "0000:3b:00", "0:3b:0.0"}) {
    const auto parsed = PciAddress::parse(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    EXPECT_EQ(parsed->text(), "0000:3b:00.0") << text;
  }
  EXPECT_EQ(PciAddress::parse("10000:01:1f.7")->text(), "10000:01:1f.7");
  EXPECT_LT(*PciAddress::parse("0000:ff:1f.7"), *PciAddress::parse("0001:00:00.0"));
}

TEST(PciAddress, OtherTextIsRefused) {
  for (const char* text :
       {"", "3b:00.0", "0000:3b", "0000:3b:", "0000:3b:00.", "0000:3b:00.8", "0000:3b:20.0", "0000:100:00.0",
        "0000:3b:00.0 ", "g000:3b:00.0", "000000000:3b:00.0", ":3b:00.0", "0000:3b:00.0.0"}) {
    EXPECT_FALSE(PciAddress::parse(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace tutti
