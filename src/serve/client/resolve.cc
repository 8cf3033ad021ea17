#include "serve/client/resolve.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <future>
#include <system_error>
#include <thread>

#include "base/system.h"

namespace polyveil::serve {
namespace {

// The future's state is shared with the thread: whichever ends last frees it.
Result<std::future<Result<Endpoints>>> Start(Lookup lookup) {
  std::packaged_task<Result<Endpoints>()> task(std::move(lookup));
  std::future<Result<Endpoints>> future = task.get_future();
  try {
    std::thread(std::move(task)).detach();
  } catch (const std::system_error& error) {
    return MakeError(ErrorCode::kResource, "no thread to resolve a name: {}", error.what());
  }
  return future;
}

}  // namespace

Result<Endpoints> LookUp(const std::string& host, const std::string& port) {
  boost::asio::io_context context{1};
  boost::asio::ip::tcp::resolver resolver(context);
  boost::system::error_code error;
  Endpoints endpoints = resolver.resolve(host, port, error);
  if (error)
    return MakeError(ErrorCode::kUnavailable, "cannot resolve the name: {}", error.message());
  return endpoints;
}

Result<Endpoints> ResolveWithin(double seconds, const std::function<bool()>& cancelled,
                                Lookup lookup) {
  PV_ASSIGN_OR_RETURN(auto future, Start(std::move(lookup)));
  const Timer timer;
  while (true) {
    const double left = seconds - timer.Seconds();
    const std::chrono::duration<double> piece(std::clamp(left, 0.0, 0.1));
    if (future.wait_for(piece) == std::future_status::ready) return future.get();
    if (cancelled()) return MakeError(ErrorCode::kCancelled, "cancelled while resolving the name");
    if (left <= 0)
      return MakeError(ErrorCode::kUnavailable, "the name is not resolved after {} s", seconds);
  }
}

}  // namespace polyveil::serve
