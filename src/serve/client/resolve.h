// Names to addresses within a bound of time.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <string>

#include "base/result.h"

namespace polyveil::serve {

using Endpoints = boost::asio::ip::tcp::resolver::results_type;
using Lookup = std::function<Result<Endpoints>()>;

// The system's lookup: blocks for as long as its resolver takes. Errors: kUnavailable.
Result<Endpoints> LookUp(const std::string& host, const std::string& port);

// What `lookup` gives, within `seconds` and a tenth of a second after `cancelled` says so. The
// system's lookup can be neither bounded nor interrupted: it runs on a thread of its own, which is
// left behind when the time is over, so `lookup` refers to nothing that ends before it. Errors:
// those of `lookup`, kUnavailable (time over), kCancelled, kResource (no thread).
Result<Endpoints> ResolveWithin(double seconds, const std::function<bool()>& cancelled,
                                Lookup lookup);

}  // namespace polyveil::serve
