// SPDX-License-Identifier: Apache-2.0
// The one language in which interfaces, devices and NICs are chosen.
#include "base/name_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tutti {
namespace {

using ::testing::HasSubstr;

NameList list_of(const char* text, NameList::Ports ports = NameList::Ports::No) {
  const Result<NameList> list = NameList::parse("NAMES", text, ports);
  EXPECT_TRUE(list.ok()) << list.status().message();
  return list.ok() ? *list : NameList();
}

TEST(NameList, PlacesAreThoseOfTheList) {
  EXPECT_EQ(list_of("").place_of("eth0"), 0);
  EXPECT_EQ(list_of("eth,mlx5").place_of("mlx5_1"), 1);
  EXPECT_EQ(list_of("eth,mlx5").place_of("ib0"), -1);
}

TEST(NameList, AMarkHoldsUntilTheNext) {
  EXPECT_FALSE(list_of("=mlx5_1,mlx5_2").admits("mlx5_20"));
  EXPECT_FALSE(list_of("^mlx5_0,mlx5_1").admits("mlx5_10"));
  EXPECT_TRUE(list_of("^=mlx5_1").admits("mlx5_10"));
  EXPECT_FALSE(list_of("^=mlx5_1").admits("mlx5_1"));
}

TEST(NameList, WhatIsExcludedIsNotChosen) {
  const NameList list = list_of("=eth0,eth1,^eth1");
  EXPECT_TRUE(list.admits("eth0"));
  EXPECT_FALSE(list.admits("eth1"));
  EXPECT_FALSE(list.admits("eth2"));
}

TEST(NameList, AColonIsAPortOrPartOfTheName) {
  const NameList ports = list_of("mlx5_0:2", NameList::Ports::Yes);
  EXPECT_TRUE(ports.admits("mlx5_0", 2));
  EXPECT_FALSE(ports.admits("mlx5_0", 1));
  EXPECT_TRUE(list_of("=eth0:1").admits("eth0:1"));
  EXPECT_FALSE(list_of("=eth0:1").admits("eth0"));
}

TEST(NameList, AnErrorNamesVariableTextAndWord) {
  const Result<NameList> list = NameList::parse("NAMES", "a,b c", NameList::Ports::No);
  ASSERT_FALSE(list.ok());
  EXPECT_EQ(list.status().code(), Code::InvalidArgument);
  EXPECT_THAT(list.status().message(), HasSubstr("NAMES='a,b c' does not parse: 'b c' is not a NAME"));
}

}  // namespace
}  // namespace tutti
