// The client's half from a real server: its routes, and the same text from it as from the folder.
#include <gtest/gtest.h>

#include <filesystem>

#include "model/client/client_half.h"
#include "serve/client/client_cache.h"
#include "serve/server/client_routes.h"
#include "support/served_client_files.h"

namespace polyveil::testing {
namespace {

using model::ClientFile;

TEST(ParseRange, TakesOneRangeFromAFirstByte) {
  const auto range = [](std::string_view field) {
    const auto parsed = serve::ParseRange(field, 100);
    if (!parsed.ok()) return std::string("refused");
    return parsed->has_value() ? fmt::format("{}-{}", (*parsed)->first, (*parsed)->second)
                               : "whole";
  };
  EXPECT_EQ(range("bytes=0-9"), "0-10");
  EXPECT_EQ(range("bytes=5-"), "5-100");
  EXPECT_EQ(range("bytes=99-500"), "99-100");
  EXPECT_EQ(range("bytes=0-18446744073709551615"), "0-100");
  EXPECT_EQ(range("bytes=100-"), "refused");
  for (const char* field : {"", "bytes=", "bytes=-5", "bytes=9-5", "bytes=1-2,5-6", "items=0-5",
                            "bytes=x-5", "bytes=1-x", "bytes= 1-2", "bytes=0-18446744073709551616"})
    EXPECT_EQ(range(field), "whole") << field;
}

TEST_F(ClientFilesServedTest, EveryRoute) {
  serve::HttpClient http(url());
  const auto get = [&](const std::string& path, const std::string& range = {}) {
    serve::ClientRequest request{.method = "GET", .path = path};
    request.range = range;
    return http.Send(request).value();
  };
  const auto reply = get("/v1/model/client");
  const auto manifest = model::ClientManifest::Parse(reply.text()).value();
  EXPECT_EQ(manifest.Digest(), files_->Manifest().Digest());
  for (const auto& entry : manifest.files) {
    const std::string path = "/v1/model/client/files/" + entry.sha256;
    const std::string_view text = files_->Find(entry.name)->text();
    const auto whole = get(path);
    EXPECT_EQ(whole.status, 200);
    EXPECT_EQ(whole.text(), text);
    const auto part = get(path, "bytes=3-7");
    EXPECT_EQ(part.status, 206);
    EXPECT_EQ(part.text(), text.substr(3, 5));
    EXPECT_EQ(part.content_range, fmt::format("bytes 3-7/{}", text.size()));
    const auto beyond = get(path, fmt::format("bytes={}-", text.size()));
    EXPECT_EQ(beyond.status, 416);
    EXPECT_EQ(beyond.content_range, fmt::format("bytes */{}", text.size()));
  }
  for (const char* path : {"/v1/model/client/", "/v1/model/client/files", "/v1/model/client/x",
                           "/v1/model/client/files/../../x", "/v1/model/client/files/client.json"})
    EXPECT_EQ(get(path).status, 404) << path;
  EXPECT_EQ(http.Send({.method = "POST", .path = "/v1/model/client"}).value().status, 404);
}

TEST_F(ClientFilesServedTest, TheHalfThatCameIsTheHalfOfTheFolder) {
  serve::ClientCacheOptions cache;
  cache.folder = folder_ / "cache" / "models";
  u64 last = 0;
  cache.on_bytes = [&](u64 done, u64 total) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    last = done;
  };
  auto remote = Connect();
  auto fetched = serve::FetchClientFiles(*remote, cache);
  ASSERT_TRUE(fetched.ok()) << fetched.error().message;
  EXPECT_EQ(last, fetched->Manifest().total_bytes());
  auto codec = model::BundleCodec(*fetched).value();
  const auto half = model::ClientHalf::Create(*std::move(fetched), std::move(codec)).value();
  auto own_codec = model::BundleCodec(*files_).value();
  const auto own = model::ClientHalf::Create(*files_, std::move(own_codec)).value();
  const auto tokens = half->Encode("once upon");
  EXPECT_EQ(tokens, own->Encode("once upon"));
  EXPECT_EQ(half->Embed(tokens).value(), own->Embed(tokens).value());
  EXPECT_EQ(half->Manifest().Digest(), own->Manifest().Digest());
}

TEST_F(ServedModelTest, AServerWithoutTheClientsHalfSaysSo) {
  auto remote = Connect();
  const auto manifest = serve::FetchManifest(*remote, {});
  ASSERT_FALSE(manifest.ok());
  EXPECT_EQ(manifest.error().code, ErrorCode::kNotFound);
  EXPECT_NE(manifest.error().message.find("no client's half"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::testing
