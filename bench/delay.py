#!/usr/bin/python3
"""A far mail host: relays connections to a port on loopback and adds so many milliseconds to every round trip.

usage: delay.py PORT TO_PORT MILLISECONDS

The kernel completes a connection to PORT at once; a far one takes a round trip, and the host sees it half a
round trip later. So the host is dialled after one and a half, and what the client says meanwhile waits.
"""
import asyncio
import sys


async def collect(reader, queue, delay):
    while True:
        try:
            data = await reader.read(65536)
        except OSError:
            data = b""
        queue.put_nowait((asyncio.get_running_loop().time() + delay, data))
        if not data:
            return


async def deliver(queue, writer):
    while True:
        due, data = await queue.get()
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        if not data:
            break
        writer.write(data)
        try:
            await writer.drain()
        except OSError:
            break
    writer.close()


async def relay(reader, writer, to_port, round_trip):
    there, back = asyncio.Queue(), asyncio.Queue()
    early = asyncio.create_task(collect(reader, there, round_trip / 2))
    await asyncio.sleep(round_trip * 1.5)
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to_port)
    await asyncio.gather(early, deliver(there, far_writer), collect(far_reader, back, round_trip / 2),
                         deliver(back, writer))


async def main(port, to_port, milliseconds):
    server = await asyncio.start_server(
        lambda reader, writer: relay(reader, writer, to_port, milliseconds / 1000), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4])))
