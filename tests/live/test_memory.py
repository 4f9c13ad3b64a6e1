"""What the page images hold: pages shared by copy-on-write once, chains of dumps."""
import shutil

import pytest

from live import Maker, check, cr


@pytest.fixture
def maker(request, tmp_path):
    m = Maker(request.param, tmp_path)
    yield m
    m.end()


def page_bytes(images):
    return sum(f.stat().st_size for f in images.rglob("pages-*.img"))


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_pages_of_a_family_are_saved_once(maker):
    maker.start()
    maker.dump()
    # 2 MiB of the parent and of its child, 1 MiB of the child; a little of everyone.
    assert page_bytes(maker.images) < 6 << 20
    assert page_bytes(maker.images / "shared") > 3 << 20
    assert (maker.images / "parent").readlink().name == "shared"
    maker.reap()
    # Moved as a whole, as a store or an archive does it.
    moved = maker.dir / "moved"
    shutil.copytree(maker.images, moved, symlinks=True)
    shutil.rmtree(maker.images)
    moved.rename(maker.images)
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_a_dump_to_the_same_directory_replaces_the_shared_pages(maker):
    maker.start()
    maker.dump("--leave-running")
    stale = maker.images / "shared" / "pagemap-1.img"
    stale.write_bytes(b"stale")
    maker.dump()
    assert not stale.exists()
    maker.reap()
    maker.restore()
    maker.verify()


@pytest.mark.parametrize("maker", ["cow"], indirect=True)
def test_a_damaged_or_missing_shared_page_map_is_refused_by_name(maker):
    maker.start()
    maker.dump()
    maker.reap()
    for f in (maker.images / "shared").glob("pagemap-*.img"):
        f.write_bytes(f.read_bytes()[:-3])
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "pagemap-" in done.log and "the end of the file" in done.log
    shutil.rmtree(maker.images / "shared")
    done = cr("restore", maker.images, "-d")
    assert done.returncode == 1 and "parent images" in done.log
    assert not maker.alive()
