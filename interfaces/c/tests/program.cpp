// A program in C++ uses the same header and the same library.

#include <cma.h>

#include <cstring>
#include <memory>

namespace {

template <auto end> struct ended {
    template <class T> void operator()(T *handle) const { end(handle); }
};
using host = std::unique_ptr<cma_host, ended<cma_host_close>>;
using chunk = std::unique_ptr<cma_chunk, ended<cma_chunk_free>>;

} // namespace

int main()
{
    cma_host_config config{};
    config.size = sizeof config;
    config.regions = "video=4M";
    config.map = "*=video";
    cma_host *opened;
    if (cma_host_open(&config, &opened) != 0)
        return 1;
    const host owner{opened};
    cma_request request{};
    request.size = sizeof request;
    request.bytes = 8192;
    request.device = "camera";
    cma_chunk *made;
    if (cma_host_allocate(owner.get(), &request, &made) != 0)
        return 2;
    const chunk frame{made};
    void *address;
    if (cma_chunk_map(frame.get(), &address) != 0)
        return 3;
    std::memset(address, 1, 8192);
    return 0;
}
