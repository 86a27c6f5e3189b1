/*
 * Packets of DPDK in a chunk: packets SIZE
 *
 * The chunk is registered as external memory, and is the memory of a pool of packets. The device
 * net_null writes 64 zero bytes into each packet that it receives. The program writes the packet's
 * number behind them, sends it, and prints where the packet lies in the chunk.
 */
#include "chunk.h"
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define PACKETS 1024
#define ROOM 2048
#define RECEIVED 64

int main(int argc, char **argv)
{
    if (argc != 2)
        FAIL("usage: packets SIZE");
    size_t size = strtoull(argv[1], NULL, 10);
    struct cma_chunk *handle;
    uint8_t *chunk = map_chunk("net", size, &handle);
    struct cma_chunk_info info = { .size = sizeof info };
    CHECK(cma_chunk_info(handle, &info));
    rte_iova_t first = info.start;
    size_t page = info.granule_bytes;

    char *options[] = { argv[0], "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-l", "0",
                        "-m", "64", "--vdev=net_null0,copy=1,size=64", "--log-level=error", NULL };
    if (rte_eal_init(sizeof options / sizeof *options - 1, options) < 0)
        FAIL("rte_eal_init: %s", rte_strerror(rte_errno));

    /* The pages' addresses for devices: the chunk is physically contiguous. */
    size_t pages = size / page;
    rte_iova_t *addresses = calloc(pages, sizeof *addresses);
    for (size_t i = 0; i < pages; i++)
        addresses[i] = first + i * page;
    if (rte_extmem_register(chunk, size, addresses, pages, page) != 0)
        FAIL("rte_extmem_register: %s", rte_strerror(rte_errno));
    struct rte_pktmbuf_extmem memory = { chunk, first, size, ROOM + RTE_PKTMBUF_HEADROOM };
    struct rte_mempool *pool = rte_pktmbuf_pool_create_extbuf(
        "chunk", PACKETS, 0, 0, ROOM + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY, &memory, 1);
    if (!pool)
        FAIL("rte_pktmbuf_pool_create_extbuf: %s", rte_strerror(rte_errno));

    struct rte_eth_conf defaults = { 0 };
    if (rte_eth_dev_configure(0, 1, 1, &defaults) != 0 ||
        rte_eth_rx_queue_setup(0, 0, 64, SOCKET_ID_ANY, NULL, pool) != 0 ||
        rte_eth_tx_queue_setup(0, 0, 64, SOCKET_ID_ANY, NULL) != 0 || rte_eth_dev_start(0) != 0)
        FAIL("net_null0 can't be started");

    uint64_t number = 0;
    while (number < 2 * PACKETS) {
        struct rte_mbuf *packets[32];
        uint16_t received = rte_eth_rx_burst(0, 0, packets, 32);
        if (received == 0)
            FAIL("net_null0 received nothing after %lu packets", number);
        for (uint16_t i = 0; i < received; i++, number++) {
            uint8_t *data = rte_pktmbuf_mtod(packets[i], uint8_t *);
            if (data < chunk || data + ROOM > chunk + size)
                FAIL("packet %lu is not in the chunk", number);
            if (rte_pktmbuf_iova(packets[i]) != first + (rte_iova_t)(data - chunk))
                FAIL("packet %lu has another address for devices", number);
            uint8_t *end = (uint8_t *)rte_pktmbuf_append(packets[i], sizeof number);
            if (end != data + RECEIVED)
                FAIL("packet %lu has %u bytes", number, rte_pktmbuf_pkt_len(packets[i]));
            memcpy(end, &number, sizeof number);
            printf("packet %zu\n", (size_t)(data - chunk));
        }
        if (rte_eth_tx_burst(0, 0, packets, received) != received)
            FAIL("net_null0 does not send");
    }
    struct rte_eth_stats count;
    if (rte_eth_stats_get(0, &count) != 0 || count.ipackets != number || count.opackets != number)
        FAIL("net_null0 counts %lu and %lu packets", count.ipackets, count.opackets);
    if (rte_eth_dev_stop(0) != 0 || rte_eth_dev_close(0) != 0)
        FAIL("net_null0 does not stop");
    rte_mempool_free(pool);
    if (rte_extmem_unregister(chunk, size) != 0)
        FAIL("rte_extmem_unregister: %s", rte_strerror(rte_errno));
    CHECK(cma_chunk_free(handle));
    rte_eal_cleanup();
    return 0;
}
