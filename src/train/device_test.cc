#include "train/device.h"

#include <gtest/gtest.h>

namespace polyveil::train {
namespace {

TEST(Device, NamesAreReadOrRefused) {
  EXPECT_TRUE(OpenDevice("cpu").value().is_cpu());
  for (const char* name :
       {"", "gpu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:1000", "CUDA"}) {
    const auto device = OpenDevice(name);
    ASSERT_FALSE(device.ok()) << name;
    EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument) << name;
  }
}

TEST(Device, WhatIsNotThereIsSaid) {
  const auto device = OpenDevice("cuda:127");
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.error().code, ErrorCode::kNotFound);
  EXPECT_NE(device.error().message.find("device"), std::string::npos) << device.error().message;
}

}  // namespace
}  // namespace polyveil::train
