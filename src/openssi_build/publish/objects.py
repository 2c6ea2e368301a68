"""S3-compatible object storage as target: parallel uploads, each checked by its SHA256, and conditional writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from openssi.errors import Error
from openssi_build import settings
from openssi_build.publish.targets import LOCK, Advance
from openssi_build.publish.tree import Item

T = TypeVar("T")
_RENEW = 20  # seconds between two signs of life of the lock's holder
_STALE = 120  # seconds without one after which it is dead
_WHOLE = 64 << 20  # a bigger file is uploaded in parts
_CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_ABSENT = ("NoSuchKey", "404")


def _age(answer: Any) -> float:
    """Return how many seconds ago an object was written, by the server's clock, which shows whole seconds."""
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return float((now - answer["LastModified"]).total_seconds())


class ObjectTarget:
    """Objects below a prefix of a bucket. Credentials are found as by every program that uses boto3."""

    links = False

    def __init__(self, chosen: settings.Publish) -> None:
        self.name = chosen.name
        self._chosen = chosen
        self._bucket, _, prefix = chosen.to.removeprefix("s3://").strip("/").partition("/")
        if not self._bucket:
            raise Error(f"{chosen.to}: expected s3://BUCKET/PREFIX")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = None
        self._lost = threading.Event()
        self._tags: dict[str, str] = {}  # ETag of what was read, by path
        self._ages: dict[str, float] = {}  # and how many seconds before that it was written

    def __enter__(self) -> ObjectTarget:
        import boto3
        from botocore.config import Config

        config = Config(
            retries={"max_attempts": 6, "mode": "standard"},
            connect_timeout=20,
            read_timeout=60,
            max_pool_connections=self._chosen.uploads * 2 + 2,
            s3={"addressing_style": "path" if self._chosen.endpoint else "auto"},
        )
        with self._named("connecting"):
            session = boto3.session.Session(region_name=self._chosen.region)
            region = session.region_name or "us-east-1"
            self._client = session.client("s3", endpoint_url=self._chosen.endpoint, region_name=region, config=config)
        return self

    def __exit__(self, *problem: object) -> None:
        self._client.close()

    @contextlib.contextmanager
    def _named(self, what: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error, HTTPClientError, OSError) as problem:
            text = " ".join(str(problem).split())
            raise Error(
                f"{self.name}: {what}: {text}", hint="repair it and run again: it goes on where it stopped"
            ) from problem

    def _key(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + path}

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """See Target. It is an object that is written only if it is not there, and renewed while we live."""
        tag = self._take_lock(waiting)
        stop = threading.Event()
        self._lost.clear()
        thread = threading.Thread(target=self._renew, args=(tag, stop), daemon=True)
        thread.start()
        try:
            self._abort_uploads()
            yield
        finally:
            stop.set()
            thread.join()
            if not self._lost.is_set():
                with self._named("unlocking"):
                    self._client.delete_object(**self._key(LOCK))

    def _take_lock(self, waiting: Callable[[str], None]) -> str:
        end = time.monotonic() + self._chosen.wait_s
        told = False
        while True:
            if tag := self._write_lock({"IfNoneMatch": "*"}):
                return tag
            with self._named("lock"):
                holder, old, age = self._holder()
            if old and age > _STALE and (tag := self._write_lock({"IfMatch": old})):
                return tag
            if not told:
                waiting(holder)
                told = True
            if time.monotonic() >= end:
                raise Error(f"{self.name}: locked by {holder}", hint="wait for it to end, or end it")
            time.sleep(0.5)

    def _write_lock(self, condition: dict[str, str]) -> str | None:
        """Write the lock on a condition; return its ETag, or None when the condition does not hold."""
        text = f"{os.uname().nodename} pid {os.getpid()} {time.time_ns()}"
        body = json.dumps({"holder": text}).encode()
        with self._named("lock"):
            answer = self._unless(_CHANGED, lambda: self._client.put_object(**self._key(LOCK), Body=body, **condition))
            if answer:
                return str(answer["ETag"])
            holder, tag, _ = self._holder()
        # The answer to our own first attempt may have been lost.
        return tag if holder == text else None

    def _holder(self) -> tuple[str, str, float]:
        """Return who has the lock, its ETag and how many seconds ago he was seen, by the server's clock."""
        answer = self._unless(_ABSENT, lambda: self._client.get_object(**self._key(LOCK)))
        if not answer:
            return "another publisher", "", 0.0
        try:
            holder = str(json.loads(answer["Body"].read())["holder"])
        except (ValueError, KeyError, TypeError):
            holder = "another publisher"
        return holder, answer["ETag"], _age(answer)

    def _renew(self, tag: str, stop: threading.Event) -> None:
        seen = time.monotonic()
        while not stop.wait(_RENEW):
            try:
                renewed = self._write_lock({"IfMatch": tag})
            except Error:
                if time.monotonic() - seen < _STALE / 2:
                    continue
                renewed = None
            if renewed is None:
                self._lost.set()
                return
            tag, seen = renewed, time.monotonic()

    def _abort_uploads(self) -> None:
        """Drop the parts that interrupted publishers left: they cost money and nobody sees them."""
        with self._named("parts of earlier uploads"):
            answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
            for each in answer.get("Uploads", []):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"])

    def _unless(self, codes: Sequence[str], call: Callable[[], Any]) -> Any:
        """Return what ``call`` returns, or None when the server's error is one of ``codes``."""
        from botocore.exceptions import ClientError

        try:
            return call()
        except ClientError as problem:
            if problem.response.get("Error", {}).get("Code") in codes:
                return None
            raise

    def listing(self) -> dict[str, int]:
        """See Target."""
        found: dict[str, int] = {}
        with self._named("listing"):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            ):
                for each in page.get("Contents", []):
                    path = each["Key"].removeprefix(self._prefix)
                    if not any(part.startswith(".") for part in path.split("/")):
                        found[path] = each["Size"]
        return found

    def read(self, path: str) -> bytes | None:
        """See Target."""
        with self._named(path):
            answer = self._unless(_ABSENT, lambda: self._client.get_object(**self._key(path)))
            if not answer:
                return None
            self._tags[path], self._ages[path] = answer["ETag"], _age(answer)
            return bytes(answer["Body"].read())

    def put(self, items: Sequence[Item], advance: Advance) -> None:
        """See Target."""
        self._each(self._put_one, items, advance)

    def _each(self, act: Callable[[Item], None], items: Sequence[Item], advance: Advance) -> None:
        with ThreadPoolExecutor(self._chosen.uploads) as pool:
            futures = [(item, pool.submit(act, item)) for item in items]
            try:
                for item, future in futures:
                    future.result()
                    advance(item.size)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _put_one(self, item: Item) -> None:
        if self._lost.is_set():
            raise Error(
                f"{self.name}: the lock was lost to another publisher", hint="run again: it goes on where it stopped"
            )
        about = {"CacheControl": item.cache_control, "ContentType": item.content_type}
        with self._named(item.path):
            if item.size > _WHOLE:
                extra = {**about, "ChecksumAlgorithm": "SHA256"}
                self._client.upload_file(str(item.source), self._bucket, self._prefix + item.path, ExtraArgs=extra)
                return
            # A name that tells its content is never written twice.
            condition = {"IfNoneMatch": "*"} if item.immutable else {}
            self._put_whole(item, {**about, **condition})

    def _put_whole(self, item: Item, extra: dict[str, str]) -> bool:
        """Upload a file in one piece; return False when a condition in ``extra`` does not hold."""

        def call() -> Any:
            with item.source.open("rb") as body:
                return self._client.put_object(**self._key(item.path), Body=body, ChecksumSHA256=item.checksum, **extra)

        return self._unless(_CHANGED, call) is not None

    def replace(self, item: Item, expected: bytes | None) -> None:
        """See Target. The server itself compares: even a publisher that lost its lock overwrites nobody."""
        condition = {"IfNoneMatch": "*"}
        if expected is not None:
            if self.read(item.path) != expected:
                raise Error(f"{self.name}: {item.path} was changed by another publisher")
            condition = {"IfMatch": self._tags[item.path]}
            # Who asks by date, as apt does, takes two files of one second for the same.
            time.sleep(max(0.0, 1 - self._ages[item.path]))
        about = {"CacheControl": item.cache_control, "ContentType": item.content_type}
        with self._named(item.path):
            written = not self._lost.is_set() and self._put_whole(item, {**about, **condition})
            # The answer to our own first attempt may have been lost.
            if not written and self.read(item.path) != item.source.read_bytes():
                raise Error(f"{self.name}: {item.path} was changed by another publisher", hint="run again")

    def write(self, path: str, content: bytes) -> None:
        """See Target."""
        with self._named(path):
            self._client.put_object(**self._key(path), Body=content, CacheControl="no-store")

    def digests(self, items: Sequence[Item]) -> dict[str, str]:
        """See Target. What is bigger than one upload was checked part by part by the server as it came."""
        found: dict[str, str] = {}

        def look(item: Item) -> None:
            if item.size > _WHOLE:
                with self._named(item.path):
                    answer = self._unless(_ABSENT, lambda: self._client.head_object(**self._key(item.path)))
                if answer and answer["ContentLength"] == item.size:
                    found[item.path] = item.sha256
                return
            with self._named(item.path):
                answer = self._unless(_ABSENT, lambda: self._client.get_object(**self._key(item.path)))
                if answer:
                    found[item.path] = hashlib.sha256(answer["Body"].read()).hexdigest()

        self._each(look, items, lambda _: None)
        return found

    def fetch(self, paths: Sequence[str], destination: Path, advance: Advance) -> None:
        """See Target."""

        def get(item: Item) -> None:
            item.source.parent.mkdir(parents=True, exist_ok=True)
            with self._named(item.path):
                self._client.download_file(self._bucket, self._prefix + item.path, str(item.source))
            advance(item.source.stat().st_size)

        self._each(get, [Item(path, destination / path, 0) for path in paths], lambda _: None)

    def delete(self, paths: Iterable[str]) -> None:
        """See Target."""
        keys = [{"Key": self._prefix + path} for path in paths]
        with self._named("deleting"):
            for start in range(0, len(keys), 1000):
                self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": keys[start : start + 1000], "Quiet": True}
                )
