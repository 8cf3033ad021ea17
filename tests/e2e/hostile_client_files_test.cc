// The client's half from servers that are broken or hostile, and the cache folder that keeps it:
// small files, an honest answer with one part of it exchanged.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "model/sha256.h"
#include "serve/client/client_cache.h"
#include "serve/client/file_download.h"
#include "support/mock_model.h"

namespace polyveil::testing {
namespace {

namespace fs = std::filesystem;

std::string Sha(const std::string& text) {
  return model::Sha256Hex({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What a request's Range asks for: [first, last].
std::pair<size_t, size_t> RangeOf(const MockRequest& request) {
  const size_t at = request.header.find("bytes=");
  if (at == std::string::npos) return {0, SIZE_MAX};
  size_t first = 0, last = 0;
  std::sscanf(request.header.c_str() + at, "bytes=%zu-%zu", &first, &last);
  return {first, last};
}

std::string PartReply(const std::string& body, size_t first, size_t total) {
  return fmt::format(
      "HTTP/1.1 206 Mock\r\nContent-Range: bytes {}-{}/{}\r\nContent-Length: {}\r\n\r\n{}", first,
      first + body.size() - 1, total, body.size(), body);
}

class ClientFilesTest : public ::testing::Test {
 protected:
  using Answer = MockServer::Answer;

  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "client-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    cache_.folder = root_ / "polyveil" / "models";
    files_["client.json"] = R"({"format":"polyveil-client/1"})";
    files_["embed"] = std::string(100000, 'e');
    for (size_t i = 0; i < files_["embed"].size(); ++i)
      files_["embed"][i] = static_cast<char>(i * i);
    files_["empty"] = "";
    server_ = std::make_unique<MockServer>([this](const MockRequest& request, MockPeer& peer) {
      const Answer hostile = hostile_.For(request);
      hostile ? hostile(request, peer) : Honest(request, peer);
    });
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(root_);
  }
  std::string Manifest() const {
    model::ClientManifest manifest;
    for (const auto& [name, text] : files_)
      manifest.files.push_back({name, text.size(), Sha(text)});
    return manifest.Format();
  }
  fs::path Folder() const {
    return fs::path(cache_.folder) / model::ClientManifest::Parse(Manifest()).value().Digest();
  }
  void Honest(const MockRequest& request, MockPeer& peer) {
    if (request.path == "/v1/model/client") return (void)peer.Send(MockReply(200, Manifest()));
    for (const auto& [name, text] : files_) {
      if (!request.path.ends_with("/files/" + Sha(text))) continue;
      const auto [first, last] = RangeOf(request);
      return (void)peer.Send(PartReply(text.substr(first, last - first + 1), first, text.size()));
    }
    peer.Send(model_.Reply(request));
  }
  // Requests whose line holds this get another answer.
  void Exchange(std::string line, Answer answer) {
    hostile_.Set([line](const std::string& all) { return all.find(line) != std::string::npos; },
                 std::move(answer));
  }
  void ExchangeEmbed(Answer answer) { Exchange(Sha(files_["embed"]), std::move(answer)); }
  std::unique_ptr<serve::RemoteModel> Connect() {
    serve::RemoteOptions options;
    options.allow_insecure = true;
    options.retry_seconds = 2;
    options.reply_seconds = 5;
    options.cancel = &cancel_;
    return serve::RemoteModel::Connect(server_->url(), options).value();
  }
  Result<model::ClientFiles> Fetch() { return serve::FetchClientFiles(*Connect(), cache_); }
  void ExpectWhole() {
    const auto files = Fetch();
    ASSERT_TRUE(files.ok()) << files.error().message;
    ASSERT_EQ(files->files().size(), files_.size());
    for (const auto& [name, text] : files_) {
      EXPECT_EQ(files->Find(name)->text(), text);
      EXPECT_EQ(ReadText(Folder() / name), text);
    }
  }
  void ExpectRefused(ErrorCode code, std::string_view what) {
    const auto files = Fetch();
    ASSERT_FALSE(files.ok()) << what;
    EXPECT_EQ(files.error().code, code) << files.error().message;
    EXPECT_NE(files.error().message.find(what), std::string::npos) << files.error().message;
    EXPECT_FALSE(fs::exists(Folder()));
  }
  size_t FileRequests() const {
    size_t count = 0;
    for (const MockRequest& request : server_->Requests())
      count += request.path.find("/files/") != std::string::npos;
    return count;
  }

  MockModel model_;
  std::map<std::string, std::string> files_;
  fs::path root_;
  serve::ClientCacheOptions cache_;
  std::atomic<bool> cancel_{false};

 private:
  ExchangedAnswer hostile_;

 protected:
  std::unique_ptr<MockServer> server_;
};

TEST_F(ClientFilesTest, ComeOnceAndAreKeptForTheUserAlone) {
  ExpectWhole();
  EXPECT_EQ(FileRequests(), 2u);  // an empty one needs none
  ExpectWhole();
  EXPECT_EQ(FileRequests(), 2u);
  for (const auto& entry : fs::recursive_directory_iterator(root_)) {
    struct stat info {};
    ASSERT_EQ(lstat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, entry.is_directory() ? 0700u : 0600u) << entry.path();
  }
  EXPECT_FALSE(fs::exists(fs::path(cache_.folder) / ("." + Folder().filename().string())));
}

TEST_F(ClientFilesTest, OtherBytesThanTheManifestSays) {
  ExchangeEmbed([&](const MockRequest&, MockPeer& peer) {
    peer.Send(PartReply(std::string(100000, 'x'), 0, 100000));
  });
  ExpectRefused(ErrorCode::kCorrupt, "'embed' has sha256");
  EXPECT_FALSE(
      fs::exists(fs::path(cache_.folder) / ("." + Folder().filename().string()) / "embed"));
}

TEST_F(ClientFilesTest, PartsOfAnotherSize) {
  const auto with = [&](size_t bytes, const char* range) {
    ExchangeEmbed([bytes, range](const MockRequest&, MockPeer& peer) {
      peer.Send(
          fmt::format("HTTP/1.1 206 Mock\r\nContent-Range: {}\r\nContent-Length: {}\r\n\r\n{}",
                      range, bytes, std::string(bytes, 'x')));
    });
    fs::remove_all(cache_.folder);
  };
  with(99999, "bytes 0-99999/100000");
  ExpectRefused(ErrorCode::kCorrupt, "99999 of 100000 bytes");
  with(100001, "bytes 0-99999/100000");
  ExpectRefused(ErrorCode::kOutOfRange, "above its bound");
  for (const char* range : {"bytes 0-99999/200000", "bytes 1-100000/100000", "bytes */5", "",
                            "bytes 0-99999/100000, 5", "\xff\xfe"}) {
    with(100000, range);
    ExpectRefused(ErrorCode::kCorrupt, "asked for bytes 0-99999/100000");
  }
}

TEST_F(ClientFilesTest, ABodyWithoutEnd) {
  ExchangeEmbed([](const MockRequest&, MockPeer& peer) {
    peer.Send(
        "HTTP/1.1 206 Mock\r\nContent-Range: bytes 0-99999/100000\r\n"
        "Transfer-Encoding: chunked\r\n\r\n");
    EXPECT_LT(peer.SendForEver(MockChunk(std::string(1000, 'x'))), 8u << 20);
  });
  ExpectRefused(ErrorCode::kOutOfRange, "above its bound");
  Exchange("GET /v1/model/client", [](const MockRequest&, MockPeer& peer) {
    peer.Send(MockChunkedHeader());
    EXPECT_LT(peer.SendForEver(MockChunk(std::string(1000, ' '))), 8u << 20);
  });
  ExpectRefused(ErrorCode::kOutOfRange, "above its bound");
}

TEST_F(ClientFilesTest, NamesThatLeaveTheFolder) {
  for (const std::string name : {"../embed", "a/b", "/tmp/x", "..", ".lock", ""}) {
    auto files = files_;
    files[name] = "x";
    Exchange("GET /v1/model/client", [this, files](const MockRequest& request, MockPeer& peer) {
      std::string body = "{\"format\":\"polyveil-client-files/1\",\"files\":[";
      for (const auto& [file, text] : files)
        body += fmt::format("{}{{\"name\":\"{}\",\"bytes\":{},\"sha256\":\"{}\"}}",
                            body.ends_with('[') ? "" : ",", file, text.size(), Sha(text));
      request.path.ends_with("client") ? (void)peer.Send(MockReply(200, body + "]}"))
                                       : Honest(request, peer);
    });
    const auto fetched = Fetch();
    ASSERT_FALSE(fetched.ok()) << name;
    EXPECT_FALSE(fs::exists(cache_.folder)) << name;
  }
}

TEST_F(ClientFilesTest, ManifestsThatAreTooLarge) {
  const std::string line(model::kMaxManifestBytes + 1, ' ');
  Exchange("GET /v1/model/client", [&](const MockRequest&, MockPeer& peer) {
    peer.Send(MockReply(200, Manifest() + line));
  });
  ExpectRefused(ErrorCode::kOutOfRange, "above its bound");
  Exchange("GET /v1/model/client",
           [&](const MockRequest&, MockPeer& peer) { peer.Send(MockReply(200, "[[[[[[[[")); });
  ExpectRefused(ErrorCode::kCorrupt, "manifest");
  Exchange("GET /v1/model/client",
           [&](const MockRequest&, MockPeer& peer) { peer.Send(MockReply(404, "{}")); });
  ExpectRefused(ErrorCode::kUnavailable, "HTTP 404");
}

TEST_F(ClientFilesTest, MoreThanTheUserAllows) {
  cache_.max_bytes = 100000;
  ExpectRefused(ErrorCode::kResource, "100030 bytes, above the limit of 100000");
  EXPECT_EQ(FileRequests(), 0u);
}

TEST_F(ClientFilesTest, ABrokenConnectionGoesOnWhereItBroke) {
  std::atomic<int> broken{0};
  ExchangeEmbed([&](const MockRequest& request, MockPeer& peer) {
    if (broken++ >= 3) return Honest(request, peer);
    const auto [first, last] = RangeOf(request);
    const std::string part = files_["embed"].substr(first);
    peer.Send(PartReply(part, first, 100000).substr(0, 130 + 20000));
    peer.Close();
  });
  ExpectWhole();
  size_t resumed = 0;
  for (const MockRequest& request : server_->Requests())
    resumed += request.header.find("bytes=") != std::string::npos && RangeOf(request).first > 0;
  EXPECT_EQ(resumed, 3u);
}

TEST_F(ClientFilesTest, AnInterruptedRunIsTakenUpByTheNext) {
  ExchangeEmbed([&](const MockRequest& request, MockPeer& peer) {
    const auto [first, last] = RangeOf(request);
    peer.Send(PartReply(files_["embed"].substr(first), first, 100000).substr(0, 130 + 50000));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    cancel_ = true;
    peer.WaitForEver();
  });
  EXPECT_EQ(Fetch().error().code, ErrorCode::kCancelled);
  cancel_ = false;
  Exchange("nothing", {});
  ExpectWhole();
  EXPECT_GT(RangeOf(server_->Requests().back()).first, 1000u);
}

// The beginning that an earlier run left is another file's: all of it comes anew, once.
TEST_F(ClientFilesTest, ResumedWithOtherBytes) {
  const fs::path incoming = fs::path(cache_.folder) / ("." + Folder().filename().string());
  const auto leave = [&] {
    fs::create_directories(incoming);
    for (fs::path folder = incoming; folder != root_; folder = folder.parent_path())
      fs::permissions(folder, fs::perms::owner_all);
    std::ofstream(incoming / "embed", std::ios::binary) << std::string(60000, 'z');
  };
  leave();
  ExpectWhole();
  EXPECT_EQ(FileRequests(), 3u);
  fs::remove_all(cache_.folder);
  leave();
  ExchangeEmbed([&](const MockRequest& request, MockPeer& peer) {
    const auto [first, last] = RangeOf(request);
    peer.Send(PartReply(std::string(100000 - first, 'y'), first, 100000));
  });
  ExpectRefused(ErrorCode::kCorrupt, "'embed' has sha256");
}

TEST_F(ClientFilesTest, ADamagedCacheIsNoticedAndFetchedAnew) {
  ExpectWhole();
  std::ofstream(Folder() / "embed", std::ios::binary | std::ios::in).seekp(70000) << "!";
  ExpectWhole();
  EXPECT_EQ(FileRequests(), 3u);
  fs::resize_file(Folder() / "embed", 5);
  ExpectWhole();
  fs::remove(Folder() / "client.json");
  ExpectWhole();
  fs::remove(Folder() / "embed");
  fs::create_directory(Folder() / "embed");
  ExpectWhole();
}

TEST_F(ClientFilesTest, TwoClientsAtOnceFetchOnce) {
  std::atomic<bool> waited{false}, failed{false};
  cache_.on_wait = [&] { waited = true; };
  ExchangeEmbed([&](const MockRequest& request, MockPeer& peer) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    Honest(request, peer);
  });
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) clients.emplace_back([&] { failed = failed || !Fetch().ok(); });
  for (std::thread& client : clients) client.join();
  EXPECT_FALSE(failed);
  EXPECT_TRUE(waited);
  EXPECT_EQ(FileRequests(), 2u);
  ExpectWhole();
}

TEST_F(ClientFilesTest, AFileOfSeveralParts) {
  files_["embed"] = std::string(serve::kDownloadPartBytes + 12345, 'p');
  ExpectWhole();
  EXPECT_EQ(FileRequests(), 3u);
}

TEST_F(ClientFilesTest, AFullDiskNamesTheFile) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{30000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto files = Fetch();
  setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(files.ok());
  EXPECT_EQ(files.error().code, ErrorCode::kIo);
  EXPECT_NE(files.error().message.find("/embed: cannot write behind"), std::string::npos)
      << files.error().message;
  ExpectWhole();
}

TEST_F(ClientFilesTest, AFolderThatOthersMayWrite) {
  fs::create_directories(cache_.folder);
  for (const char* folder : {"polyveil", "polyveil/models"}) {
    fs::permissions(root_ / "polyveil", fs::perms::owner_all);
    fs::permissions(cache_.folder, fs::perms::owner_all);
    fs::permissions(root_ / folder, fs::perms::all);
    ExpectRefused(ErrorCode::kSecurity, "mode 777");
  }
  fs::remove_all(cache_.folder);
  fs::permissions(root_ / "polyveil", fs::perms::owner_all);
  fs::create_directory(root_ / "elsewhere");
  fs::create_directory_symlink(root_ / "elsewhere", cache_.folder);
  ExpectRefused(ErrorCode::kSecurity, "no folder");
}

}  // namespace
}  // namespace polyveil::testing
