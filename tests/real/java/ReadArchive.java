import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveEntry;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;

/** Reads an archive from stdin as a server does that has nothing but a stream: a line for each entry. */
public final class ReadArchive {
    /** Bytes that only come one after the other: a pipe's own stream would try to seek when it skips. */
    private static final class Stream extends InputStream {
        private final InputStream in;

        Stream(InputStream in) {
            this.in = in;
        }

        @Override
        public int read() throws IOException {
            return in.read();
        }

        @Override
        public int read(byte[] block, int begin, int size) throws IOException {
            return in.read(block, begin, size);
        }
    }

    public static void main(String[] words) throws IOException {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        try (InputStream in = new Stream(System.in)) {
            if (words[0].equals("zip")) {
                zip(new ZipInputStream(in), out);
            } else {
                tar(new TarArchiveInputStream(in), out);
            }
        } finally {
            out.flush();
        }
    }

    private static void zip(ZipInputStream in, PrintStream out) throws IOException {
        for (ZipEntry entry = in.getNextEntry(); entry != null; entry = in.getNextEntry()) {
            tell(entry.getName(), in, out);
        }
    }

    private static void tar(TarArchiveInputStream in, PrintStream out) throws IOException {
        for (TarArchiveEntry entry = in.getNextTarEntry(); entry != null; entry = in.getNextTarEntry()) {
            tell(entry.getName(), in, out);
        }
    }

    private static void tell(String name, InputStream in, PrintStream out) throws IOException {
        CRC32 crc = new CRC32();
        byte[] block = new byte[1 << 16];
        long size = 0;
        for (int got = in.read(block); got > 0; got = in.read(block)) {
            crc.update(block, 0, got);
            size += got;
        }
        out.println(size + " " + crc.getValue() + " " + name);
    }
}
