// A body that takes memory as its bytes arrive: the length that a header claims reserves nothing.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/optional.hpp>

#include "wire/bytes.h"

namespace polyveil::serve {

struct GrowingBody {
  using value_type = wire::Bytes;

  class reader {
   public:
    template <bool is_request, typename Fields>
    reader(boost::beast::http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>&, boost::beast::error_code& error) {
      error = {};
    }
    template <typename Buffers>
    size_t put(const Buffers& buffers, boost::beast::error_code& error) {
      error = {};
      size_t count = 0;
      for (const auto piece : boost::beast::buffers_range_ref(buffers)) {
        const auto* bytes = static_cast<const std::uint8_t*>(piece.data());
        body_.insert(body_.end(), bytes, bytes + piece.size());
        count += piece.size();
      }
      return count;
    }
    void finish(boost::beast::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

}  // namespace polyveil::serve
