package toolkit.app;

import java.nio.ByteBuffer;

/** An upright RGBA picture in a direct buffer that grows as needed: 4 x width bytes a row. */
final class Picture {
    ByteBuffer rgba = ByteBuffer.allocateDirect(0);
    int width;
    int height;
    String name = "";

    /** Makes room for a picture of width x height that `orientation` turns. */
    void prepare(String name, int width, int height, int orientation) {
        this.name = name;
        this.width = Orientation.swapsSides(orientation) ? height : width;
        this.height = Orientation.swapsSides(orientation) ? width : height;
        if (rgba.capacity() < 4 * width * height) {
            rgba = ByteBuffer.allocateDirect(4 * width * height);
        }
    }

    boolean isEmpty() {
        return width == 0;
    }
}
