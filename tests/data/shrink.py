#!/usr/bin/env python3
"""Packs a folder of level-10 dumps for the repository: activations and KV become zeros, which pack to nothing.

    shrink.py DUMPS OUT.tar.gz

Of every floating point tensor all but the first 4 KiB are zeroed in place (enough is left to tell two
activations apart), in safetensors and in torch archives alike; sizes, headers, records and index tensors
stay as FlashInfer wrote them. Owner, times and order in the archive are fixed, so that the same input
gives the same bytes.
"""
import gzip, io, json, os, struct, sys, tarfile, zipfile, zlib

KEPT = 4096
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


def shrink_safetensors(data):
    (length,) = struct.unpack_from("<Q", data)
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__" or entry["dtype"] not in FLOATS: continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if end - begin > KEPT: data[begin + KEPT:end] = bytes(end - begin - KEPT)
    return data


def shrink_torch(data):
    """Storages of more than 16 KiB are activations. Zeroing one changes its CRC in both of its headers."""
    archive = zipfile.ZipFile(io.BytesIO(bytes(data)))
    for info in archive.infolist():
        if "/data/" not in info.filename or info.file_size <= 4 * KEPT: continue
        name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
        begin = info.header_offset + 30 + name + extra
        data[begin + KEPT:begin + info.file_size] = bytes(info.file_size - KEPT)
        old, new = struct.pack("<I", info.CRC), struct.pack("<I", zlib.crc32(data[begin:begin + info.file_size]))
        local, descriptor = info.header_offset + 14, begin + info.file_size
        if data[local:local + 4] == old: data[local:local + 4] = new
        if data[descriptor:descriptor + 4] == b"PK\x07\x08": data[descriptor + 4:descriptor + 8] = new
        central = data.index(b"PK\x01\x02", archive.start_dir)
        while data[central + 46:central + 46 + len(info.filename)] != info.filename.encode():
            central = data.index(b"PK\x01\x02", central + 4)
        data[central + 16:central + 20] = new
    return data


def main(source, out):
    with open(out, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed, \
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder, folders, files in os.walk(source):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(folder, file)
                data = bytearray(open(path, "rb").read())
                if file.endswith(".safetensors"): data = shrink_safetensors(data)
                if file.endswith(".pt"): data = shrink_torch(data)
                entry = tarfile.TarInfo(os.path.relpath(path, os.path.dirname(source.rstrip("/"))))
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
